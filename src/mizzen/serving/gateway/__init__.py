"""Accepts, identifies, queues and answers requests: the front of every endpoint.

    supervisor        one parent: binds the port, keeps N processes alive, each on the same listening socket
    process           one of them: puts the parts below together
    ├ http            requests in, answers out: two servers, one contract
    ├ gateway         which path is whose, who may call it, what the directory says
    ├ paths, identity the protocol's paths; API keys
    ├ service         one endpoint's live state: the shell around its queue (`mizzen.policy.queue`)
    ├ served          one version of it: decode, put together, take apart, encode
    ├ exchange        one request on its way
    ├ link            one connection to one worker process
    ├ measures        counters; `metrics` makes the page that adds up all processes
    └ directory       what is to be served, by whom, to whom: a port; `kubernetes` and `file` are its adapters

What a process knows it keeps: it serves on while the API server is away.
"""
