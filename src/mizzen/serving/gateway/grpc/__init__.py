"""gRPC: `inference.GRPCInferenceService` as KServe and Triton have it, and gRPC's health service.

    calls     what each method does with a message, whatever carried it
    exchange  one inference request, read from a message and answered with one
    aio       the transport by grpcio: always there
    native    the transport by pygrpc-native (HTTP/2 on Rust threads), where it is installed: several times faster

A transport hands each unary call to `Calls.unary` on the event loop and gets its answer by a callback, without a task
where it can do without. Streams are served by grpcio under both.
"""
