"""Submodules: fetched for one build, with the app's own credentials, into a repository that goes away with it.

A push carries only the id of a submodule's commit (gitsubmodules(7)). What it names is fetched here with git, over TLS
alone, from hosts alone that the app has credentials for (builder.git_credentials). A `.gitmodules` comes from whoever
pushed: no other protocol, no redirect, no hook and no configuration of this machine takes part. Names in the trees that
come are looked at where all trees are (builder.source).
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from dulwich.config import ConfigFile, parse_submodules

from builder import git_credentials
from builder.engine import TimeLimitError
from builder.output import one_line
from builder.source import CommitTree, Source, open_tree
from store.errors import CancelledError, SlipwayError
from store.secret import Secret

FILE = ".gitmodules"
MOST = 50
"""Submodules of one commit, those of submodules included."""
DEEPEST = 5
LARGEST_KIB = 4 << 20
"""KiB of one pack that is fetched: 4 GiB."""
LOOK_SECONDS = 0.02

_SCP = re.compile(r"(?:[^@/:]+@)?([A-Za-z0-9.-]+):(?!//)(.+)")
"""`git@HOST:PATH`, the short form of an address over SSH (git-fetch(1), "GIT URLS")."""
_STRICT = {
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "http.followRedirects": "false",
    "credential.helper": "",
    "core.hooksPath": os.devnull,
    "gc.auto": "0",
}


class SubmoduleError(SlipwayError):
    """A submodule cannot be fetched. Nothing was built."""


@contextmanager
def opened(
    source: Source,
    config: Mapping[str, Secret],
    say: Callable[[str], None],
    cancelled: threading.Event,
    deadline: float,
) -> Iterator[CommitTree]:
    """Open a commit's tree with its submodules in it, as far as the app has credentials for their hosts.

    `deadline` is a moment of time.monotonic(). Raises SubmoduleError, GitCredentialsError, SourceError, CancelledError,
    TimeLimitError.
    """
    with open_tree(source) as tree:
        logins = git_credentials.parse(config) if tree.file(FILE) is not None else {}
        if not logins:
            yield tree
            return
    with tempfile.TemporaryDirectory(prefix="slipway-submodules-") as folder:
        fetching = _Fetching(Path(folder), source, logins, say, cancelled, deadline)
        fetching.run(source.commit, "", 0)
        with open_tree(Source(fetching.repository, source.commit), fetching.trees) as tree:
            yield tree


class _Fetching:
    """One run: a bare repository that borrows the app's objects."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        logins: Mapping[str, Secret],
        say: Callable[[str], None],
        cancelled: threading.Event,
        deadline: float,
    ) -> None:
        self.repository = folder / "repository.git"
        self.trees: dict[bytes, bytes] = {}
        """The root tree of every commit that was fetched."""
        self._logins = logins
        self._say = say
        self._cancelled = cancelled
        self._deadline = deadline
        self._git({}, "init", "--quiet", "--bare", "--template=", str(self.repository))
        alternates = self.repository / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{source.repository.absolute() / 'objects'}\n")

    def run(self, commit: str, prefix: str, depth: int) -> None:
        """Fetch what a commit's `.gitmodules` names; `prefix` is where in the context it lies."""
        with open_tree(Source(self.repository, commit)) as tree:
            content = tree.file(FILE) or b""
            try:
                modules = [
                    (path.decode(), url.decode())
                    for path, url, _ in parse_submodules(ConfigFile.from_file(io.BytesIO(content)))
                ]
            except (ValueError, KeyError):
                raise SubmoduleError(f"{prefix}{FILE} cannot be read; mend it") from None
            wanted = [(path, url, found) for path, url in modules if (found := tree.submodule(path))]
        for path, written, found in wanted:
            where = one_line(prefix + path)
            url, host = _https(written)
            if host is None or host not in self._logins:
                continue  # if the build needs it, the context says so
            if len(self.trees) >= MOST or depth >= DEEPEST:
                raise SubmoduleError(
                    f"{where} is one submodule too many: at most {MOST} are fetched, at most {DEEPEST} in each other"
                )
            if found.encode() not in self.trees:
                self._say(f"Fetching the submodule {where} from {host}\n")
                self._fetch(where, url, host, found)
                with open_tree(Source(self.repository, found)) as fetched:
                    self.trees[found.encode()] = fetched.root
            self.run(found, f"{prefix}{path}/", depth + 1)

    def _fetch(self, where: str, url: str, host: str, commit: str) -> None:
        # In the environment, where no other user of the machine can read it, as they could an argument.
        login = {f"http.https://{host}/.extraHeader": f"Authorization: {self._logins[host].reveal()}"}
        words = ["--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
        said = self._git(
            login, f"--git-dir={self.repository}", "fetch", *words, "--", url, f"{commit}:refs/submodules/{commit}"
        )
        if said is not None:
            raise SubmoduleError(
                f"The submodule {where} could not be fetched from {host}: {said}. Check that commit {commit[:12]} is "
                f"pushed there, and that the user in {git_credentials.VARIABLE} may read it."
            )

    def _git(self, configuration: Mapping[str, str], *words: str) -> str | None:
        """Run git, and return what it says when it fails."""
        settings = _STRICT | dict(configuration)
        environment = {name: value for name, value in os.environ.items() if _is_passed_on(name)}
        environment |= {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": str(len(settings)),
            "HOME": "/nonexistent",  # where ~/.netrc would be
            "LC_ALL": "C",
        }
        for number, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        limited = ["sh", "-c", f'ulimit -f {LARGEST_KIB * 2}; exec git "$@"', "git", *words]
        with (
            tempfile.TemporaryFile() as output,
            subprocess.Popen(
                limited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            ) as process,
        ):
            try:
                self._wait(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            output.seek(0)
            lines = output.read(1 << 16).decode("utf-8", "replace").splitlines()
        return None if process.returncode == 0 else one_line(" ".join(lines[-2:]))[:300]

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
                return
            if self._cancelled.is_set():
                raise CancelledError("cancelled")
            if time.monotonic() > self._deadline:
                raise TimeLimitError("The build was stopped, since its time was over before its submodules had come.")


def _https(written: str) -> tuple[str, str | None]:
    """Return a submodule's address over TLS, and its host; None for what has no such address.

    An address over SSH means the same repository to the servers that people use, and there is no key for it here.
    """
    if "://" not in written and (short := _SCP.fullmatch(written)):
        return f"https://{short[1]}/{short[2]}", short[1]
    try:
        parts = urlsplit(written)
        host, port = parts.hostname, parts.port
    except ValueError:
        return written, None
    if host is None or parts.scheme not in ("https", "ssh"):
        return written, None
    if parts.scheme == "ssh":
        return f"https://{host}{parts.path}", host
    place = host if port is None else f"{host}:{port}"
    # Without the user that it may name: the app's own credentials decide.
    return f"https://{place}{parts.path}", place


def _is_passed_on(name: str) -> bool:
    """Keep the way to the outside, and whom the administrator trusts there; nothing else of Git's settings."""
    return not name.startswith("GIT_") or name.startswith("GIT_SSL_CA")
