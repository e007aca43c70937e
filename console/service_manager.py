"""What the server and its service manager tell each other: sd_notify(3) and sd_listen_fds(3).

Both are an environment variable and a descriptor each, so they need no library. Without the variables nothing happens.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

FIRST_DESCRIPTOR = 3
"""Where the descriptors that are passed begin (sd_listen_fds(3), SD_LISTEN_FDS_START)."""


class ServiceManager:
    """The manager that started this process, if one did. To be made once, before any other process is started.

    Its variables are taken out of the environment: what the server starts, HAProxy above all, would take them for its
    own.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        count, process = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
        os.environ.pop("LISTEN_FDNAMES", None)
        passed = int(count) if count.isdigit() and process == str(os.getpid()) else 0
        self._descriptors = list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + passed))

    def listeners(self) -> list[socket.socket]:
        """Return the listening TCP sockets that were passed, for the caller to keep.

        While the server is being replaced they stay with the manager, and clients that connect wait.
        """
        found = []
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, False)
            passed = socket.socket(fileno=descriptor)
            if passed.family in (socket.AF_INET, socket.AF_INET6) and passed.type == socket.SOCK_STREAM:
                found.append(passed)
        self._descriptors = []
        return found

    def tell(self, **state: str | int) -> None:
        """Tell the manager, in the words of sd_notify(3): `READY=1`. It is not there to answer, or to be waited for."""
        if not self._address:
            return
        # A name that begins with @ is one in the abstract namespace (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.sendto(message.encode(), address)
