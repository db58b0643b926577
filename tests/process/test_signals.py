import subprocess
import sys

# A mutex that this thread holds: the second lock never returns, and no signal interrupts it. So
# Python runs no handler, as while TensorFlow compiles.
STUCK = """
import ctypes
from detflow.process.signals import stop_request
with stop_request(lambda: print("stopping", flush=True)):
    print("ready", flush=True)
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


def test_a_signal_is_acknowledged_and_a_second_one_obeyed_while_native_code_runs():
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.readline() == b"stopping\n"
        process.terminate()
        assert process.wait(timeout=60) == 128 + 15
