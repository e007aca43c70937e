"""The server's SSH host key: one Ed25519 key, made once, in the file format of OpenSSH."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store.errors import SlipwayError


class HostKeyError(SlipwayError):
    """The host key cannot be made or read."""


def make_or_load(path: Path) -> str:
    """Make the host key at `path` unless there is one, and return its fingerprint.

    The fingerprint is in the form that `ssh-keygen -l` prints, `SHA256:BASE64`, for a person to compare at their first
    connection. Raises HostKeyError.
    """
    if not path.exists():
        _make(path)
    return fingerprint(load(path))


def load(path: Path) -> paramiko.PKey:
    """Read the private host key at `path`. Raises HostKeyError."""
    try:
        return paramiko.Ed25519Key(filename=str(path))
    except OSError as error:
        raise HostKeyError(f"the host key {path} cannot be read: {error.strerror}") from error
    except (paramiko.SSHException, ValueError) as error:
        raise HostKeyError(
            f"the host key {path} is not an unencrypted Ed25519 key of OpenSSH's form; "
            "put the right file back, or remove it to have a new one made"
        ) from error


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's SHA-256 fingerprint, `SHA256:BASE64` without padding (ssh-keygen(1), `-l`)."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _make(path: Path) -> None:
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        # mkstemp's files are 0600 from the start, so that there is no instant in which somebody else may read the key.
        descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # link, unlike rename, leaves alone a key that another process has made meanwhile.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            Path(draft).unlink()
    except OSError as error:
        raise HostKeyError(f"the host key {path} cannot be made: {error.strerror}") from error
