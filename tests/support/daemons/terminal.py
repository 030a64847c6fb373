"""Commands on a terminal of their own: what a person would see, control sequences included."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading

from tests.support.daemons.commands import HOTSEAT
from tests.support.daemons.live_daemon import wait_for

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_LIMIT_S = 60.0


def on_terminal(arguments, environ, *, keys=b"", after="", columns=100, lines=30):
    """Exit code and output of `hotseat ARGUMENTS`; `keys` are typed once `after` was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*HOTSEAT, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color", **environ},
    )
    os.close(theirs)
    shown = bytearray()
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    try:
        if keys:
            wait_for(lambda: after.encode() in shown, _LIMIT_S, f"{after!r} on the terminal")
            os.write(ours, keys)
        code = process.wait(_LIMIT_S)
    finally:
        process.kill()
        reader.join()
        os.close(ours)
    return code, shown.decode(errors="replace")


def _read(descriptor, shown):
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # nobody has the other end any more
            return
        if not data:
            return
        shown += data


def plain(text):
    """The text without colours and weights; where it stands is left."""
    return _STYLE.sub("", text)
