"""When this process was started (Linux)."""

from __future__ import annotations

import os
import time

# Position of the start among the fields of /proc/self/stat behind the name (proc(5): field 22).
_START = 19


def process_start() -> float:
    """Returns the time at which this process was started, by `time.monotonic`.

    A command's own imports are over before its first line runs; this counts them in.
    """
    with open("/proc/self/stat", "rb") as file:
        # The name stands in brackets and may hold anything.
        fields = file.read().rpartition(b")")[2].split()
    since_boot = int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    return time.monotonic() - age
