"""Who asks, whether they may, and what is added to what they create.

`authn` turns a bearer token into a user (`tokens` for people, `service_account_tokens` for Pods), `rbac` decides, and
`escalation` keeps a user from granting more than they have; `reviews` answers questions about both. `admission` fills
in and refuses objects before they are stored. `pki` and `kubeconfig` make the server's identity and its first user's
credentials; `bootstrap` holds the roles that every cluster starts with. What they read of the store is a
`types.Reader`.
"""
