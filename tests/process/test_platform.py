import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detflow.process import platform
from detflow.process.platform import process_start


def test_a_process_knows_when_it_was_started():
    began = time.monotonic()
    script = (
        "import time; time.sleep(0.2); from detflow.process.platform import process_start; "
        "print(process_start())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    # The system counts in hundredths of a second.
    assert began - 0.02 <= float(done.stdout) <= time.monotonic() - 0.2
    assert process_start() < began


def read_resident_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@pytest.mark.skipif(not hasattr(platform._LIBC, "malloc_trim"), reason="the C library is not glibc")
def test_what_is_freed_between_blocks_in_use_goes_back():
    before = read_resident_mib()
    # Smaller than what the system hands out by itself; every second one stays.
    blocks = [b"x" * 60_000 for _ in range(1_000)]
    kept = blocks[::20]
    del blocks
    platform.return_free_pages()
    assert len(kept) == 50
    assert read_resident_mib() < before + 20


@pytest.mark.skipif(not hasattr(platform._LIBC, "mallopt"), reason="the C library is not glibc")
def test_what_a_training_frees_stays_for_what_it_allocates_next():
    script = """
import re
from pathlib import Path
from detflow.process.platform import keep_freed_memory

def read(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

keep_freed_memory()
idle = read("Rss")
for _ in range(3):
    block = b"x" * (100 << 20)
    del block
print(read("Rss") - idle, read("AnonHugePages"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    resident, huge = map(int, done.stdout.split())
    assert 100 << 10 <= resident < 120 << 10
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    assert "[never]" in setting or huge >= 90 << 10
