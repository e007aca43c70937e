"""Public key authentication (RFC 4252, section 7), and no other kind.

An SSH client first asks about each of its keys without a signature, and then signs with one of them. Whoever offers a
key has proved nothing until the signature is checked, so that is the one place where an identity is taken; a server
that took it from the last key asked about would let an attacker ask about a victim's key and sign with their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko
import structlog
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    AUTH_SUCCESSFUL,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_REQUEST,
    cMSG_USERAUTH_FAILURE,
    cMSG_USERAUTH_PK_OK,
)

from gitserver import farewell
from hooks.engine_room import User
from store.errors import SlipwayError

log = structlog.get_logger()

KEY_CLASSES: dict[str, type[paramiko.PKey]] = {
    "ssh-ed25519": paramiko.Ed25519Key,
    "ecdsa-sha2-nistp256": paramiko.ECDSAKey,
    "ecdsa-sha2-nistp384": paramiko.ECDSAKey,
    "ecdsa-sha2-nistp521": paramiko.ECDSAKey,
    "rsa-sha2-512": paramiko.RSAKey,
    "rsa-sha2-256": paramiko.RSAKey,
}
"""Signature algorithms (RFC 8332, RFC 5656, RFC 8709), none with SHA-1, and who reads the keys that belong to them."""

Identify = Callable[[str, str], User | None]
"""Tells who somebody is by the user name that they connect as and a public key, given as `TYPE BASE64`."""


class PublicKeyAuthentication(AuthHandler):
    """The server's side of one client's authentication."""

    user: User | None = None
    """Who has authenticated, from the moment that they have."""

    if TYPE_CHECKING:
        # What paramiko offers to a subclass without declaring it.
        class _Transport(paramiko.Transport):
            def _send_message(self, data: paramiko.Message) -> None: ...

        transport: _Transport

        def _get_session_blob(self, key: paramiko.PKey, service: str, username: bytes, algorithm: str) -> bytes: ...
        def _send_auth_result(self, username: str, method: str, result: int) -> None: ...
        def _disconnect_service_not_available(self) -> None: ...
        def _parse_service_request(self, m: paramiko.Message) -> None: ...

    def __init__(self, transport: paramiko.Transport, identify: Identify, attempts: int) -> None:
        super().__init__(transport)
        self._identify = identify
        self._attempts_left = attempts
        self._asked = False
        """Whether the client has asked which methods there are: the method "none" is the way to (RFC 4252, 5.2)."""
        self._looked_up: tuple[tuple[str, str], User | None] | None = None
        """The name and the key that were looked up last, and whose they are."""

    @property
    def _handler_table(self) -> dict[int, Callable[[paramiko.Message], None]]:
        return {
            MSG_SERVICE_REQUEST: self._parse_service_request,
            MSG_USERAUTH_REQUEST: self._parse_userauth_request,
        }

    def _parse_userauth_request(self, m: paramiko.Message) -> None:
        if self.authenticated:
            return
        # The user name is signed together with everything else. What it means is the engine room's to say.
        username = m.get_binary()
        if m.get_binary() != b"ssh-connection":
            self._disconnect_service_not_available()
            return
        method = m.get_binary()
        if method != b"publickey":
            self._fail(counts=method != b"none" or self._asked)
            self._asked = True
            return
        try:
            self._try_key(username, m)
        except SlipwayError as error:
            log.warning("authentication.unavailable", error=str(error))
            self._disconnect(str(error))

    def _try_key(self, username: bytes, m: paramiko.Message) -> None:
        signed = m.get_boolean()
        algorithm = m.get_binary().decode("ascii", "replace")
        blob = m.get_binary()
        key = _read_key(algorithm, blob)
        name = username.decode("ascii", "replace")
        user = None if key is None else self._identified(name, f"{key.get_name()} {key.get_base64()}")
        if key is None or user is None:
            self._fail()
        elif not signed:
            answer = paramiko.Message()
            answer.add_byte(cMSG_USERAUTH_PK_OK)
            answer.add_string(algorithm)
            answer.add_string(blob)
            self.transport._send_message(answer)
            self._count()
        elif _verifies(
            key, algorithm, self._get_session_blob(key, "ssh-connection", username, algorithm), m.get_binary()
        ):
            self.user = user
            self._send_auth_result("", "publickey", AUTH_SUCCESSFUL)
        else:
            self._fail()

    def _identified(self, name: str, key: str) -> User | None:
        """Return who that is. A client signs right after it has asked, and is not looked up twice for it.

        Whatever it asks for then is refused if its access has been removed in between.
        """
        if self._looked_up is None or self._looked_up[0] != (name, key):
            self._looked_up = (name, key), self._identify(name, key)
        return self._looked_up[1]

    def _fail(self, *, counts: bool = True) -> None:
        """Refuse this attempt; the client's next key gets its turn, up to the limit."""
        answer = paramiko.Message()
        answer.add_byte(cMSG_USERAUTH_FAILURE)
        answer.add_string("publickey")
        answer.add_boolean(False)
        self.transport._send_message(answer)
        if counts:
            self._count()

    def _count(self) -> None:
        """Count an attempt that left the client unauthenticated. A key that was asked about is still to be used."""
        self._attempts_left -= 1
        if self._attempts_left < 0:
            self._disconnect("too many keys were offered; choose one with ssh -i FILE -o IdentitiesOnly=yes")

    def _disconnect(self, reason: str) -> None:
        """Hang up with a reason, which OpenSSH shows (RFC 4253, 11.1): a failure would blame the user's key."""
        self.transport._send_message(farewell.message(farewell.SERVICE_NOT_AVAILABLE, reason))
        self.transport.close()


def _read_key(algorithm: str, blob: bytes) -> paramiko.PKey | None:
    """Return the public key, or None for a kind that is not supported, a certificate, or one that is mangled."""
    kind = "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm
    try:
        if algorithm not in KEY_CLASSES or paramiko.Message(blob).get_text() != kind:
            return None
        return KEY_CLASSES[algorithm](msg=paramiko.Message(blob))
    except Exception:
        # Key parsers raise errors of several libraries; each of them means that this key is no use.
        return None


def _verifies(key: paramiko.PKey, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is of the algorithm that was announced, and this key's over `data`."""
    try:
        if paramiko.Message(signature).get_text() != algorithm:
            return False
        return key.verify_ssh_sig(data, paramiko.Message(signature))
    except Exception:
        # A malformed signature raises errors of several libraries, where a wrong one is plainly False.
        return False
