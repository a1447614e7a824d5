"""Accepts, identifies, queues and answers requests: the front of every endpoint.

    supervisor        one parent: binds the port, keeps N processes alive, each on the same listening socket
    process           one of them: puts the parts below together
    ├ http            granian's HTTP/1.1 and HTTP/2 server: one plain callback for each request, no task
    ├ routes          which path is whose, as tables made when endpoints change
    ├ identity        who may call what
    ├ inference       a request from bytes to the queue, and its answer back
    ├ service         one endpoint's live state: its queue (`mizzen.policy.queue`), versions and workers
    ├ link            one connection to one worker process
    ├ metrics         counters, and the page that adds up all processes
    └ directory       what is to be served, by whom, to whom: a port with adapters for a Kubernetes API and for a file

What a process knows it keeps: it serves on while the API server is away.
"""
