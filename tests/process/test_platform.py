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
