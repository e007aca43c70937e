"""Where everything lies: the layout of the data folder, in one place."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from store.errors import SlipwayError
from store.secret import Secret


class DataFolderError(SlipwayError):
    """The data folder is not there, or is not one."""


@dataclass(frozen=True)
class DataFolder:
    """The one folder that a server needs: copy it, and the server has moved."""

    root: Path
    secret_key: Secret | None = None
    """The key that the records are sealed with, if it is not in a file of the folder."""

    @property
    def database(self) -> Path:
        """The records, an SQLite file."""
        return self.root / "slipway.db"

    @property
    def config_key(self) -> Path:
        """The key under which config values are encrypted, mode 0600."""
        return self.root / "config.key"

    @property
    def next_config_key(self) -> Path:
        """Both keys, each sealed under the other, while the config key is being replaced."""
        return self.root / "config.key.next"

    @property
    def host_key(self) -> Path:
        """The SSH host key, mode 0600."""
        return self.root / "ssh_host_ed25519_key"

    @property
    def token_key(self) -> Path:
        """The key that access tokens are signed with, mode 0600. Without it, everybody logs in again."""
        return self.root / "token.key"

    @property
    def repositories(self) -> Path:
        """One bare repository per app, named after the app's record id."""
        return self.root / "repositories"

    @property
    def logs(self) -> Path:
        """One log per operation."""
        return self.root / "logs"

    @property
    def reserve(self) -> Path:
        """Space that is held for the day when the disk is full."""
        return self.root / "reserve"

    @property
    def proxy(self) -> Path:
        """HAProxy's configuration, sockets and pid file."""
        return self.root / "proxy"

    @property
    def lock(self) -> Path:
        """Locked (flock(2)) by the server that serves this folder, for as long as it lives."""
        return self.root / "run" / "lock"

    @property
    def socket(self) -> Path:
        """The engine room's Unix socket."""
        return self.root / "run" / "engine-room.sock"

    def create(self) -> None:
        """Make the folders that are missing, readable by their owner alone.

        Raises DataFolderError if the place is taken by something else or may not be written.
        """
        try:
            for folder in (self.root, self.repositories, self.logs, self.proxy, self.socket.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise DataFolderError(f"the data folder {self.root} cannot be made: {error.strerror}") from error

    def require_private(self) -> None:
        """Raise DataFolderError if another user owns, or may read, what only the server's user should."""
        for path in (self.root, self.config_key, self.host_key, self.database):
            if not path.exists():
                continue
            found = path.stat()
            if found.st_uid != os.geteuid():
                raise DataFolderError(
                    f"{path} belongs to another user; run this as the user who runs the server, or chown it"
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise DataFolderError(f"others may read {path}; mend it with: chmod go= {path}")

    def require(self) -> None:
        """Raise DataFolderError unless `slipway init` has prepared the folder."""
        if not (self.database.exists() and (self.secret_key or self.config_key.exists())):
            raise DataFolderError(
                f"{self.root} is not a data folder; prepare it with: "
                f"slipway init --data {self.root} --admin-key FILE.pub"
            )
