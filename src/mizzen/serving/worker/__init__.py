"""One process, one model version: verified before it is loaded, warmed before it is ready, ended to free its memory.

`python -m mizzen.serving.worker` reads its task from the environment (`task`), fetches the model by digest
(`artifacts`), loads and warms it (`model`), and then answers batches that gateways send (`server`), one after the other
and on a thread of its own unless they are quick (`runner`), so that its sockets and its probes (`health`) stay live
while it computes. It grants each gateway a few credits and holds no more than that: the queue is in the gateways. Only
what this needs is imported; the start is measured.
"""
