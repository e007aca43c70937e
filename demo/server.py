"""The `slipway` server itself, run as whoever operates it would: init, serve, users, down."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.person import Person
from demo.process import Process, ProgramError
from demo.root_filesystem import SYSTEM_PATH

PROGRAM = (sys.executable, "-m", "console.program")
"""The `slipway` program of this very installation, whether or not its script is in PATH."""

_ROOT = Path(__file__).resolve().parent.parent

_ADMINISTRATION_SECONDS = 60.0
"""When a local command counts as stuck; `down` waits for containers to stop."""


class Server:
    """A server on one data folder. It can be started and stopped, or killed, as often as need be."""

    def __init__(
        self,
        data: Path,
        engine: str,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = PROGRAM,
    ) -> None:
        """Describe a server; `engine` is an engine's URL, `settings` are further environment variables.

        `program` are the words that it is served by, which understand those of `slipway`.
        """
        self._program = program
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        self.host = "127.0.0.1"
        self.port = 0
        self.api = ""
        self.fingerprint = ""
        self.greeting = ""
        """What the server printed until it was ready, without its log."""
        home = data.parent / f"{data.name}-home"
        (home / ".docker").mkdir(parents=True, exist_ok=True)
        (home / ".docker" / "config.json").write_text("{}")
        self.environment = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(_ROOT),
            "PYTHONUNBUFFERED": "1",
            "DOCKER_HOST": engine,
            "SLIPWAY_HTTP": "127.0.0.1:80",  # apps answer on the loopback address only
            **(settings or {}),
        }
        self.process: Process | None = None

    def administer(self, *words: str | Path) -> str:
        """Run `slipway WORDS… --data DIR` and return what it printed. Raises ProgramError when it fails."""
        answer = subprocess.run(
            [*PROGRAM, *words, "--data", self.data],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ADMINISTRATION_SECONDS,
            check=False,
        )
        if answer.returncode:
            said = answer.stderr.strip()
            raise ProgramError(f"slipway {words[0]} failed with exit status {answer.returncode}: {said}")
        return answer.stdout

    def init(self, admin: Person) -> None:
        """Prepare the data folder, once, with its first administrator."""
        self.administer("init", "--admin-key", admin.public_key, "--admin-name", admin.name)

    def serve_words(self) -> list[str]:
        """Return the words of `slipway serve` for this server."""
        return ["serve", "--data", str(self.data), "--ssh", f"{self.host}:{self.port}", "--api", "127.0.0.1:0"]

    def start(self, *options: str) -> None:
        """Serve on free ports of the loopback address, and return when the server is ready."""
        words = [*self._program, *self.serve_words(), *options]
        self.process = Process(words, log=self.log, environment=self.environment)
        ready = self.process.wait_for(r"^ready ssh=(\S+):(\d+) api=(\S+)$", 60)
        # The port stays the same over restarts, as people's remotes do.
        self.port, self.api = int(ready[2]), ready[3]
        self.greeting = self.process.output()[: ready.end()]
        shown = re.search(r"SHA256:[A-Za-z0-9+/]{43}", self.greeting)
        if shown is None:
            raise ProgramError(f"the server did not print its host key's fingerprint; its log is {self.log}")
        self.fingerprint = shown[0]

    def add_user(self, person: Person) -> None:
        """Give somebody an account, and them the server's address and fingerprint."""
        self.administer("users", "add", person.name, "--key", person.public_key)
        self.introduce(person)

    def introduce(self, person: Person) -> None:
        """Tell somebody with an account the server's address and fingerprint."""
        person.trust(self.host, self.port, self.fingerprint)

    def stop(self) -> int | None:
        """Stop serving in good order; apps keep answering. Return the exit status, None if it was not running."""
        process, self.process = self.process, None
        return process.stop() if process else None

    def kill(self) -> None:
        """End the server's first process as a crash would (SIGKILL)."""
        process, self.process = self.process, None
        if process:
            process.kill()

    def down(self) -> None:
        """Stop serving, and remove every container, network and proxy of this server."""
        self.stop()
        if self.data.exists():
            self.administer("down")
