"""Runs a program on a terminal of its own, as a person would see it.

    python terminal.py TYPED WANTED PROGRAM [ARGUMENT...]

Types TYPED (no Enter), reads until all lines of WANTED have been shown in this order, then kills the program and ends
with 0. Prints what was shown, and ends with 1, where the program ends first or 20 seconds pass. If TYPED is not empty,
it is typed once the program has shown its prompt, `> `.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

PATIENCE_S = 20


def shown_all(shown, wanted):
    at = 0
    for part in wanted:
        at = shown.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def main():
    typed, wanted, command = sys.argv[1].encode(), sys.argv[2].encode().split(b"\n"), sys.argv[3:]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 250, 0, 0))
    shown, deadline = b"", time.monotonic() + PATIENCE_S
    try:
        while not shown_all(shown, wanted):
            if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                break
            try:
                part = os.read(terminal, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
            if typed and b"> " in shown:
                os.write(terminal, typed)
                typed = b""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if shown_all(shown, wanted):
        return 0
    sys.stdout.write(shown.decode(errors="backslashreplace"))
    return 1


sys.exit(main())
