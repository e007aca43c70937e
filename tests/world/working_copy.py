"""A person's Git working copy, pushed and fetched with the real git client over the real ssh client."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from demo.person import HOST, Person


class Repo:
    """One working copy on branch `master`, with the server as remote `aptible`."""

    def __init__(self, person: Person, app: str) -> None:
        """Initialise an empty repository for an app in the person's home folder."""
        self.person = person
        self.app = app
        self.folder = Path(tempfile.mkdtemp(prefix="repo-", dir=person.home))
        self.git_ok("init", "--quiet")
        self.git_ok("remote", "add", "aptible", f"{HOST}:{app}.git")

    def git(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        """Run git here, whatever comes of it."""
        return self.person.run(["git", *words], folder=self.folder, environment=environment)

    def git_ok(self, *words: str | Path) -> str:
        """Run git here; it has to succeed. Return what it printed, without the last line end."""
        answer = self.git(*words)
        assert answer.returncode == 0, f"git {words[0]}: {answer.stderr}"
        return answer.stdout.removesuffix("\n")

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "Change the app") -> str:
        """Write files (None deletes one), commit everything and return the commit id."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content)
        self.git_ok("add", "--all")
        self.git_ok("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git_ok("rev-parse", "HEAD")

    def push(self, *words: str) -> CompletedProcess[str]:
        """Run `git push aptible WORDS…`, whatever comes of it. The server's words are in `stderr`."""
        return self.git("push", "aptible", *(words or ("master",)))

    def remote_refs(self) -> dict[str, str]:
        """Return what the server has: commit ids by full ref name."""
        lines = self.git_ok("ls-remote", "aptible").splitlines()
        return {ref: commit for commit, ref in (line.split("\t") for line in lines)}
