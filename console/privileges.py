"""What the server's user has to be allowed, where it is not root: the engine's socket, and low ports for the proxy."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
from pathlib import Path

from releaser.engine import DEFAULT_URL
from releaser.haproxy_process import SYSTEM_PROGRAMS
from store.errors import SlipwayError

CAP_NET_BIND_SERVICE = 10
"""Its bit (capabilities(7), linux/capability.h)."""


class NotAllowedError(SlipwayError):
    """The user lacks what the server needs."""


def check_engine(url: str | None) -> None:
    """Raise NotAllowedError if this user may not use the engine's socket. One that is not there is another matter."""
    path = Path((url or DEFAULT_URL).removeprefix("unix://"))
    if not path.is_socket() or os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return
    found, user = path.stat(), _user()
    if not found.st_mode & stat.S_IWGRP or found.st_gid == 0:
        raise NotAllowedError(
            f"the engine's socket {path} is for root alone; let the engine give it to a group: dockerd --group docker"
        )
    raise NotAllowedError(
        f"{user} may not use the engine's socket {path}; let them with: "
        f"usermod --append --groups {_group(found.st_gid)} {user}, and start the server anew"
    )


def check_port(port: int) -> None:
    """Raise NotAllowedError if a proxy that this user starts may not listen on a port."""
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if port >= first_free or _may_bind() or _proxy_may_bind():
        return
    raise NotAllowedError(
        f"{_user()} may not listen on port {port}, as the proxy should; give the service CAP_NET_BIND_SERVICE "
        f"(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose a port from {first_free} on with SLIPWAY_HTTP"
    )


def _may_bind() -> bool:
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> CAP_NET_BIND_SERVICE & 1)


def _proxy_may_bind() -> bool:
    """Return whether HAProxy's file has capabilities of its own, which are for low ports if for anything."""
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PROGRAMS}")
    try:
        return program is not None and bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
