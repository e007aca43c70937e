"""Submodules are fetched with the app's own credentials, and with nothing else of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from builder import context, submodules
from builder.context import ContextError
from builder.git_credentials import VARIABLE, GitCredentialsError
from builder.source import Source
from builder.submodules import SubmoduleError
from demo.registry import Registry
from store.errors import CancelledError
from store.secret import Secret
from tests.builder.conftest import BOTH_BUILDERS, Log, Workbench
from tests.builder.git_server import LOGIN, GitServer


@pytest.fixture
def git_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    with GitServer(tmp_path / "git-server") as running:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(running.certificate))
        yield running


@pytest.fixture
def library(git_server: GitServer, tmp_path: Path) -> tuple[str, str]:
    """A repository on the server with another one as its own submodule: its address, and its commit."""
    inner = _Copy(tmp_path / "inner")
    inner_commit = inner.commit({"deep.txt": "deep"}).commit
    inner_url = git_server.publish("inner", inner.folder)
    outer = _Copy(tmp_path / "library")
    commit = outer.commit_with({"lib.txt": "of the library"}, {"below": (inner_url, inner_commit)}).commit
    return git_server.publish("library", outer.folder), commit


class _Copy(Workbench):
    """A working copy only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def commit_with(self, files: Mapping[str, str], modules: Mapping[str, tuple[str, str]]) -> Source:
        """Commit files, and submodules by their paths: each an address and a commit."""
        lines = [f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, (url, _) in modules.items()]
        self.commit({**files, ".gitmodules": "".join(lines)})
        for path, (_, commit) in modules.items():
            self.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Submodules")
        return Source(self.folder / ".git", self.git("rev-parse", "HEAD"))


def config(host: str, login: str = LOGIN) -> dict[str, str]:
    user, _, password = login.partition(":")
    return {VARIABLE: f"https://{user}:{quote(password, safe='')}@{host}\n"}


def names(source: Source, variables: Mapping[str, str], cancelled: threading.Event | None = None) -> list[str]:
    """Return what is in the context."""
    secrets = {name: Secret(value) for name, value in variables.items()}
    stop, until = cancelled or threading.Event(), time.monotonic() + 60
    with submodules.opened(source, secrets, Log().say, stop, until) as tree:
        entries = list(context.Context(tree, ".", {}).entries())
    for entry in entries:
        context.require_content(entry, b"")
    return [entry.path.decode() for entry in entries]


@BOTH_BUILDERS
def test_their_files_are_in_the_build(
    workbench: Workbench,
    git_server: GitServer,
    library: tuple[str, str],
    tmp_path: Path,
    private_small: str,
    registry: Registry,
    account: Callable[[Registry], dict[str, str]],
) -> None:
    copy = _Copy(tmp_path / "app")
    source = copy.commit_with({"Dockerfile": f"FROM {private_small}\nCOPY . /app\n", "x": "x"}, {"vendor/lib": library})
    log = Log()
    image = workbench.build(source, account(registry) | config(git_server.host), log=log)
    found = workbench.run(image, "sh", "-c", "cd /app/vendor/lib; cat lib.txt below/deep.txt")
    assert found == "of the librarydeep"
    assert f"Fetching the submodule vendor/lib/below from {git_server.host}\n" in str(log)
    assert LOGIN.partition(":")[2] not in str(log) + str(workbench.inspect(image.id))
    assert not list(Path("/tmp").glob("slipway-submodules-*"))


def test_addresses_over_ssh_mean_the_same_repository(git_server: GitServer, library: tuple[str, str]) -> None:
    for written, wanted in {
        "git@example.com:team/lib.git": ("https://example.com/team/lib.git", "example.com"),
        "ssh://git@example.com:22/team/lib.git": ("https://example.com/team/lib.git", "example.com"),
        "https://someone@example.com:8443/lib": ("https://example.com:8443/lib", "example.com:8443"),
    }.items():
        assert submodules._https(written) == wanted
    for written in ("../lib.git", "/srv/lib.git", "file:///srv/lib.git", "http://example.com/x", "-x"):
        assert submodules._https(written)[1] is None, written


def test_nobody_elses_host_is_shown_a_login(git_server: GitServer, library: tuple[str, str], tmp_path: Path) -> None:
    source = _Copy(tmp_path / "app").commit_with({"x": ""}, {"vendor/lib": library})
    with pytest.raises(ContextError, match=f"^vendor/lib is a submodule, .* set {VARIABLE} to"):
        names(source, config("elsewhere.example.com"))
    assert git_server.shown == []


@pytest.mark.parametrize(
    "url",
    ["file://{path}", "{path}", "ext::sh -c 'touch {path}/harmed'", "../library.git", "http://{host}/library.git"],
)
def test_an_address_that_leads_elsewhere_is_not_followed(
    git_server: GitServer, library: tuple[str, str], tmp_path: Path, url: str
) -> None:
    written = url.format(path=tmp_path / "library", host=git_server.host)
    source = _Copy(tmp_path / "app").commit_with({"x": ""}, {"vendor/lib": (written, library[1])})
    with pytest.raises(ContextError, match=r"^vendor/lib is a submodule"):
        names(source, config(git_server.host))
    assert not (tmp_path / "library" / "harmed").exists()


def test_what_cannot_be_fetched_is_told_without_the_password(
    git_server: GitServer, library: tuple[str, str], tmp_path: Path
) -> None:
    source = _Copy(tmp_path / "app").commit_with({"x": ""}, {"vendor/lib": library})
    with pytest.raises(SubmoduleError, match=r"^The submodule vendor/lib could not be fetched from") as caught:
        names(source, config(git_server.host, "reader:wr0ng-one"))
    assert "wr0ng-one" not in str(caught.value)
    missing = _Copy(tmp_path / "other").commit_with({"x": ""}, {"lib": (library[0], "1" * 40)})
    with pytest.raises(SubmoduleError, match="Check that commit 111111111111 is pushed there"):
        names(missing, config(git_server.host))
    with pytest.raises(GitCredentialsError, match=f"^Line 2 of {VARIABLE} cannot be read") as unreadable:
        names(source, {VARIABLE: "https://u:p@ok.example.com\nhttps://us3r@example.com\n"})
    assert "us3r" not in str(unreadable.value)


def test_a_cancellation_ends_the_fetch(git_server: GitServer, library: tuple[str, str], tmp_path: Path) -> None:
    source = _Copy(tmp_path / "app").commit_with({"x": ""}, {"vendor/lib": library})
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        names(source, config(git_server.host), cancelled)
    assert not list(Path("/tmp").glob("slipway-submodules-*"))
