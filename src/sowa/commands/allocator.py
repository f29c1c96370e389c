"""How the C library hands out memory."""

from __future__ import annotations

import ctypes
import platform

# From malloc.h of glibc.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Lets freed memory stay with the process for the next batch, where the C library is glibc.

    By default every tensor of some megabytes is mapped anew and filled with zeros, page by page: a quarter of the time
    of `mini` at a batch of eight. It's a matter of the whole process, so commands do it, not the package.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
