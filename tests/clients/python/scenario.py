"""What the Python scenarios share: where the server is, waiting for a condition, a worker as a process of its own."""

import contextlib
import os
import subprocess
import sys
import time

HOST = os.environ["REDIS_HOST"]
PORT = int(os.environ["REDIS_PORT"])
URL = os.environ["REDIS_URL"]


def until(condition, what, seconds=60):
    """The first result of `condition` that is true; it is asked until then."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)
    return result


def raises(kind, call):
    """Whether a call raises this kind of error."""
    try:
        call()
    except kind:
        return True
    return False


@contextlib.contextmanager
def worker(*module_and_arguments):
    """Runs `python -m …` beside the scenario."""
    process = subprocess.Popen([sys.executable, "-m", *module_and_arguments])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
