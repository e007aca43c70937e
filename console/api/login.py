"""Access tokens: JSON Web Tokens (RFC 7519) that the server signs and can take back, and the limit on attempts."""

from __future__ import annotations

import hmac
import os
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import jwt

from console.api.errors import ApiError, InvalidTokenError
from store.errors import SlipwayError
from store.tokens import Scope, Token
from store.users import User

ALGORITHM = "HS256"
"""The server alone makes and reads its tokens, so a key that is shared with nobody does (RFC 7518, section 3.2)."""

KEY_BYTES = 32

FAILURES = 10
"""Wrong passwords for one name, or from one address, after which that name or address has to wait."""

WINDOW_SECONDS = 300.0
"""For how long a wrong password counts."""

MOST_REMEMBERED = 10_000
"""Names and addresses that are remembered; beyond that, the oldest are forgotten."""


class TokenKeyError(SlipwayError):
    """The key of the tokens cannot be read or made."""


@dataclass(frozen=True)
class Claims:
    """What a token says that is signed."""

    token_id: str
    scope: Scope


class TokenKey:
    """Signs tokens and reads them again."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> TokenKey:
        """Read the key at `path`, and make it if there is none. Raises TokenKeyError."""
        try:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(KEY_BYTES) + "\n")
            text = path.read_text().strip()
            if path.stat().st_mode & 0o077:
                raise TokenKeyError(f"the key {path} may be read by others; mend it with: chmod 600 {path}")
            key = bytes.fromhex(text)
        except OSError as error:
            raise TokenKeyError(f"the key {path} cannot be used: {error.strerror}") from error
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise TokenKeyError(
                f"the key {path} is damaged; remove it to have a new one made (everybody logs in again)"
            )
        return cls(key)

    def sign(self, token: Token, user: User, email: str | None, base: str) -> str:
        """Return the token itself. Its subject is the user's URL, which Aptible's client takes apart."""
        claims = {
            "iss": base,
            "sub": f"{base}/users/{user.id}",
            "jti": token.id,
            "iat": int(token.created_at.timestamp()),
            "exp": int(token.expires_at.timestamp()),
            "scope": token.scope,
            "name": user.name,
            "email": email or user.name,
        }
        return jwt.encode(claims, self._key, ALGORITHM)

    def read(self, text: str) -> Claims:
        """Return what a token says. Raises InvalidTokenError for one that is not ours, or has expired."""
        try:
            claims = jwt.decode(text, self._key, [ALGORITHM], options={"require": ["jti", "exp", "scope"]})
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError("expired_token", "your login has expired; log in again") from None
        except (jwt.InvalidTokenError, ValueError):
            raise InvalidTokenError("invalid_token", "this access token is good for nothing; log in again") from None
        return Claims(claims["jti"], claims["scope"])

    def signature(self, text: str) -> str:
        """Return what proves that the server has written a text, in hexadecimal."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()


MOST_ENTERED = 100
"""Wrong passwords of one window that are entered in the audit log; of a flood, these tell enough."""


class TooManyAttemptsError(ApiError):
    """Somebody has to wait before they may try another password."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_attempts",
            f"too many wrong passwords; try again in {seconds} seconds",
            {"Retry-After": str(seconds)},
        )


class Attempts:
    """Counts wrong passwords, by name and by address. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, deque[float]] = {}
        self._entered: deque[float] = deque(maxlen=MOST_ENTERED)

    def check(self, *whose: str) -> None:
        """Raise TooManyAttemptsError if any of these has failed too often of late."""
        now = time.monotonic()
        with self._lock:
            waits = [
                failures[-FAILURES] + WINDOW_SECONDS - now
                for each in whose
                if len(failures := self._failures.get(each, deque())) >= FAILURES
            ]
        if waits and max(waits) > 0:
            raise TooManyAttemptsError(int(max(waits)) + 1)

    def failed(self, *whose: str) -> None:
        """Count a wrong password."""
        now = time.monotonic()
        with self._lock:
            for each in whose:
                failures = self._failures.pop(each, deque(maxlen=FAILURES))
                failures.append(now)
                self._failures[each] = failures
            while len(self._failures) > MOST_REMEMBERED:
                del self._failures[next(iter(self._failures))]

    def to_be_entered(self) -> bool:
        """Return whether one more wrong password is entered in the audit log, which keeps everything for ever."""
        now = time.monotonic()
        with self._lock:
            if len(self._entered) == MOST_ENTERED and now - self._entered[0] < WINDOW_SECONDS:
                return False
            self._entered.append(now)
        return True

    def succeeded(self, name: str) -> None:
        """Forget a name's wrong passwords; its owner has come."""
        with self._lock:
            self._failures.pop(name, None)
