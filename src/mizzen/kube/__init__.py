"""The Kubernetes API as a client sees it: access, informers, keyed work queue, reconcile runtime, events.

From the bottom up:

    identity, connection    who we are and where the server is: kubeconfig, service account, home
    wire, http1, transport  one exchange; retries where they are safe; errors made ours
    errors                  what can go wrong, as a tree
    resources, query        three sorts of class with one face; how requests are worded
    client, watching        the verbs, typed; the watch stream
    discovery               what a server serves
    cache, informer         a local copy kept true by list and watch, ahead of the watch for our own writes
    backoff, workqueue      growing waits; keys, each worked on by one at a time
    runtime                 controllers and what runs them
    leases                  leader election
    events, metrics         what is told to people, and to Prometheus
    conditions              conditions of plain JSON objects, and finalizers
    clock, process          the time of day; how a process begins and ends
"""
