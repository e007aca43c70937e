"""A server that another user than root runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from demo.process import Process
from demo.server import PROGRAM, Server

USER = 4711
"""Nobody has to have made it."""


class Unprivileged(Server):
    """A server that another user than root runs; `group` is the one of the engine's socket, 0 for none."""

    group = 0

    def words(self, *words: str) -> list[str]:
        """Return the words of a command of that user's."""
        return [
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={self.group or USER}", "--no-new-privs"),
            # The tests' Python may lie where root alone may look; nothing can be written, or connected to, with this.
            *(
                "--inh-caps=-all,+dac_read_search",
                "--ambient-caps=-all,+dac_read_search",
                "--bounding-set=-all,+dac_read_search",
            ),
            *("--", *PROGRAM, *words),
        ]

    def administer(self, *words: str | Path) -> str:
        """Run a local command as that user."""
        command = self.words(*map(str, words), "--data", str(self.data))
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def doctor(self, *options: str) -> str:
        """Return what doctor finds."""
        command = self.words("doctor", "--data", str(self.data), *options)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def start(self, *options: str) -> None:
        """Start it as that user."""
        self.process = Process(self.words(*self.serve_words(), *options), log=self.log, environment=self.environment)
        ready = self.process.wait_for(r"^ready ssh=(\S+):(\d+) api=(\S+)$", 60)
        self.port, self.api = int(ready[2]), ready[3]
        shown = self.process.wait_for(r"SHA256:[A-Za-z0-9+/]{43}")
        self.fingerprint = shown[0]
