"""The processes of a server share one log, in which each event stays a line of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROCESSES = 3
EVENTS = 2_000

SPEAK = f"""
import sys
import structlog
from console import log
log.configure("json", sys.argv[1])
for number in range({EVENTS}):
    structlog.get_logger().info("counted", number=number)
"""


def test_no_event_comes_into_the_midst_of_another(tmp_path: Path) -> None:
    """Also where nothing is buffered, as in the image."""
    shared = tmp_path / "log"
    with shared.open("ab") as log:
        speaking = [
            subprocess.Popen([sys.executable, "-u", "-c", SPEAK, f"process-{number}"], stderr=log)
            for number in range(PROCESSES)
        ]
        assert [process.wait(timeout=120) for process in speaking] == [0] * PROCESSES
    events = [json.loads(line) for line in shared.read_text().splitlines()]
    for number in range(PROCESSES):
        assert [event["number"] for event in events if event["process"] == f"process-{number}"] == list(range(EVENTS))
