"""Answers kept for requests that come again: off unless an endpoint asks for it.

    responses   one endpoint's cache: the stage between decoding and the queue
    ├ key       what makes two requests the same, as bytes, and the digest of them
    ├ entry     an answer as it is kept, and its form in the tiers that are shared
    ├ memory    this process's tier: least recently used, bounded by bytes
    ├ machine   the tier of all gateway processes of this machine (LMDB)
    └ remote    the tier of all gateways that know the same Redis

An answer is found by the 256-bit digest of its key, and given only where the whole key that is kept with it is that of
the request, byte for byte: no digest, however unlucky, gives one caller another's answer.
"""
