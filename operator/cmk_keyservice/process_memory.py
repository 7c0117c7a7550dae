"""The memory of this process: private to it, and kept from one request to the next."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""Source: prctl(2)."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Source: mallopt(3)."""
_KEPT: Final = 32 * 1024 * 1024
"""Most bytes of free memory at the end of the heap that stay with the process."""
_LARGE: Final = 16 * 1024 * 1024
"""Bytes from which an allocation is a mapping of its own, which goes back at once. No request or answer is that large."""


def keep_memory_private() -> None:
    """Turn core dumps off, and reading by ptrace and /proc. Raises `OSError` if the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE, 0)")


def keep_freed_memory() -> bool:
    """Have glibc keep what one request frees for the next one; returns whether it does. Other C libraries have no such choice.

    By default a batch gives some 100 KiB back to the kernel several times, and each page of it costs a fault when it is asked
    for again: a fifth of the processor time of a batch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))
