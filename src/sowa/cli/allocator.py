"""How a command's process handles memory: what the C library keeps, and when Python looks for garbage."""

from __future__ import annotations

import ctypes
import gc
import platform

# From malloc.h of glibc.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
COLLECT_AFTER = (100_000, 50, 100)  # new objects until the youngest are looked through, and so on


def keep_freed_memory() -> None:
    """Lets freed memory stay with the process for the next batch, where the C library is glibc.

    By default every tensor of some megabytes is mapped anew and filled with zeros, page by page: a quarter of the time
    of `mini` at a batch of eight. It's a matter of the whole process, so commands do it, not the package.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def collect_rarely() -> None:
    """Looks for garbage a hundred times less often: what torch's thousand modules make at start-up is none.

    That was a tenth of the time until the first prediction. Nearly all that a command throws away goes at once anyway,
    by reference counting.
    """
    gc.set_threshold(*COLLECT_AFTER)


def collect_no_more() -> None:
    """For the end of the process, where all of its memory goes at once: looking for garbage takes half a second."""
    gc.freeze()
