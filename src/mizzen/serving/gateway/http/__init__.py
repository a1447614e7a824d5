"""HTTP: requests in, answers out. Two servers, one contract.

    llhttp    HTTP/1.1 on the event loop's own thread, parsed by llhttp (httptools): the default
    granian   HTTP/1.1 and HTTP/2 by granian (hyper, in Rust) on threads of its own

Both take connections from the listening socket of the parent, read a whole request within limits of size and time, hand
it to the `Handler`, and answer from wherever the answer comes, without a task for a request. A client that leaves is
told to the exchange. What is not HTTP, too large or too slow is refused before anything of it reaches the gateway.
docs/adr/0006 has what was measured of the two.
"""
