"""The memory of a process that lives for months, kept at what is in use.

glibc gives each thread a heap of its own, and what is freed in one is not used by others; and it gives back only what
is free at a heap's end. So a process whose threads take turns grows for hours: the control process by a tenth in five
hundred starts of Pods, the log writer by some 40 MiB a million requests. One heap for all threads is looked through now
and then (a third of a millisecond). Elsewhere than with glibc nothing is done.
"""

import asyncio
import ctypes
import sys

TRIM_S = 10.0
_ARENA_MAX = -8
"""`M_ARENA_MAX` of malloc.h."""


def share_one_heap() -> None:
    """For processes whose threads seldom allocate at the same time; to be called before there are threads."""
    if (mallopt := _of_the_system("mallopt")) is not None:
        mallopt(_ARENA_MAX, 1)


async def give_back_freed_memory() -> None:
    """Now and then, until cancelled."""
    trim = _of_the_system("malloc_trim")
    while trim is not None:
        await asyncio.sleep(TRIM_S)
        trim(0)


def _of_the_system(name: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
