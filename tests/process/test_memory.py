import re
from pathlib import Path

import pytest

from detflow.process import memory


def read_resident_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@pytest.mark.skipif(not hasattr(memory._LIBC, "malloc_trim"), reason="the C library is not glibc")
def test_what_is_freed_between_blocks_in_use_goes_back():
    before = read_resident_mib()
    # Smaller than what the system hands out by itself; every second one stays.
    blocks = [b"x" * 60_000 for _ in range(1_000)]
    kept = blocks[::20]
    del blocks
    memory.return_free_pages()
    assert len(kept) == 50
    assert read_resident_mib() < before + 20
