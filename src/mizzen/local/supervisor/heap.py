"""Memory that was freed, given back to the system.

The control process allocates and frees objects of some kilobytes all the time (versions of objects, for watches that
may ask for them), and glibc gives back only what is free at the heap's end: after five hundred starts of Pods a tenth
of the process was holes. Looking for them takes a third of a millisecond.
"""

import asyncio
import ctypes
import sys

TRIM_S = 10.0


async def give_back_freed_memory() -> None:
    """Now and then, until cancelled; nothing where the system's library has no such thing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    while trim is not None:
        await asyncio.sleep(TRIM_S)
        trim(0)
