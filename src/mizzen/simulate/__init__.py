"""Virtual time: the policies over recorded arrivals.

The simulator calls the same functions as the live controllers do (`mizzen.policy`), with a clock of its own, over a
trace of what came in the past. What a worker takes and how long one takes to start come from the trace where it has
them, and from the scenario where not.

    traces      recorded arrivals of several formats: by second, or each request
    scenario    what a worker can do, how long it takes to start, what counts as late; the policies that are compared
    fleet       workers on their way, ready and gone; what they cost
    fluid       arrivals by second: requests as a fluid, for traces of hundreds of millions of them
    discrete    each request an event
    outcome     what is measured
    tables      outcomes as text and Markdown; `plot` as SVG

Not here: the network, the gateway's own time, batching (a worker has slots), and failures of the platform; those are
measured on the real thing.
"""
