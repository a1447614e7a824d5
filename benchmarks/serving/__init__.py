"""Mizzen beside its peers: the same ONNX models, one machine, one run, one system after the other.

Three models (`small`: some 5 us of compute; `heavy`: some 5 ms; `wide`: 64 rows x 128 floats as binary tensors), each run
by ONNX Runtime with one thread for a call. Every (system, protocol, model) must first give the right answer. Closed loop:
wrk for HTTP, h2load for gRPC, one request at a time on each connection. Open loop: requests come at a constant rate
whatever the server does, and latency counts from when each was due, so that waiting is not omitted (`open_loop.c`). All
share the machine's cores with the load. Peers live in environments of their own with pinned versions
(`peers/NAME/requirements.txt`); their settings are the best that their documentation has for models on a CPU.

Mizzen answers with all of this switched on: API key, limits, metrics, every request logged to a Delta table, traffic split
evenly over two versions with a worker process each. None of the peers has any of that on. Its row `mizzen` is with the hot
modules compiled (`make native`); `mizzen, Python` is what an install from the sources is without.
"""
