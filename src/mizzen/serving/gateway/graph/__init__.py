"""Graphs of models as they run: one request in, a hop to each node that it needs, one answer out.

    service   an endpoint that is a graph: its nodes' services, and its requests' runs
    ├ run     one request on its way through the graph
    ├ hop     one node asked: an exchange like a client's, whose request and answer stay tensors
    ├ nodes   what each kind of node does: sequence, ensemble, switch, splitter, and the model or endpoint itself
    └ arrays  tensors as numpy sees them: rows taken apart and put together again

Each model has a `Service` of its own, with queue, batches and workers, as an endpoint of that model alone has; so
batches are formed across all requests that meet at a node. What a graph means is worked out in `mizzen.policy.graph`.
This package is loaded when the first graph is declared.
"""
