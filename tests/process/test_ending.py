import subprocess
import sys

import pytest

PROGRAM = """
import atexit
import sys
from detflow.process.ending import require_immediate_exit, immediate_exit

class Stuck:
    def __del__(self):
        print("cleaned up", flush=True)

stuck = Stuck()
atexit.register(print, "atexit", flush=True)
if {prompt}:
    require_immediate_exit()
with immediate_exit():
    print("said before", end="")
    {last}
"""


def run(last, *, prompt):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(last=last, prompt=prompt)],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("last", "code"), [("sys.exit(0)", 0), ("sys.exit(143)", 143), ("raise ValueError('why')", 1)]
)
def test_a_process_ends_with_its_code_and_what_it_has_said_but_cleans_nothing_up(last, code):
    process = run(last, prompt=True)
    assert (process.returncode, process.stdout) == (code, "said before")
    assert ("ValueError: why" in process.stderr) == (code == 1)


def test_a_process_that_did_not_ask_for_it_ends_as_ever():
    process = run("sys.exit(6)", prompt=False)
    assert (process.returncode, process.stdout) == (6, "said beforeatexit\ncleaned up\n")
