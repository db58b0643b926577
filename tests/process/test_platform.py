import subprocess
import sys
import time

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
