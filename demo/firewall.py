"""The machine's firewall, as it was before an engine came and after it went.

An engine on the host creates its chains (`DOCKER…`), jumps to them, sets the policy of FORWARD and the kernel's
forwarding switch, and takes nothing of this back when it stops.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from store.errors import SlipwayError

_PROGRAMS = ("iptables", "ip6tables")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class FirewallError(SlipwayError):
    """The firewall could not be put back; what an engine added is still there, in part or in whole."""


@dataclass(frozen=True)
class Saved:
    """A firewall at one moment."""

    rules: dict[str, list[str]]
    """The lines of iptables-save(8), by program."""
    forwarding: str


def saved() -> Saved:
    """Return the firewall as it is now."""
    programs = [program for program in _PROGRAMS if shutil.which(f"{program}-save")]
    return Saved({program: _rules(program) for program in programs}, _FORWARDING.read_text())


def restore(before: Saved) -> None:
    """Remove the rules and chains that have come since `before` and speak of Docker; others stay.

    Raises FirewallError.
    """
    for program, rules in before.rules.items():
        if undo := undoing(rules, _rules(program)):
            answer = subprocess.run(
                [f"{program}-restore", "--noflush", "--wait"],
                input="\n".join(undo) + "\n",
                text=True,
                capture_output=True,
                check=False,
            )
            if answer.returncode:
                raise FirewallError(f"the rules that Docker added stay; see {program}-save: {answer.stderr.strip()}")
    _FORWARDING.write_text(before.forwarding)


def undoing(before: list[str], after: list[str]) -> list[str]:
    """Return the input of iptables-restore(8) that leads from the saved rules `after` back to those `before`.

    Both are the lines of iptables-save(8). Only what speaks of Docker is taken back, and the policy of FORWARD.
    """
    undo: list[str] = []
    for table, lines in _tables(after).items():
        old = _tables(before).get(table, [])
        new = [line for line in lines if line not in old]
        chains = [line.split()[0][1:] for line in new if line.startswith(":DOCKER")]
        rules = [line for line in new if re.match(r"-A .*(DOCKER|docker0| br-)", line)]
        policies = [line for line in old if line.startswith(":FORWARD ") and line not in lines]
        # A chain can be deleted when nothing leads to it any more, and nothing is in it.
        steps = [f"-D{rule[2:]}" for rule in rules] + [f"-F {chain}" for chain in chains] + [f"-X {c}" for c in chains]
        if policies or steps:
            undo += [table, *policies, *steps, "COMMIT"]
    return undo


def _rules(program: str) -> list[str]:
    """Return the lines of iptables-save(8), without the counters that differ every time."""
    answer = subprocess.run([f"{program}-save"], capture_output=True, text=True, check=False)
    lines = (line.strip() for line in answer.stdout.splitlines())
    return [line.rpartition(" [")[0] if line.startswith(":") else line for line in lines if not line.startswith("#")]


def _tables(lines: list[str]) -> dict[str, list[str]]:
    """Return the lines by table; a table begins with `*NAME` and ends with `COMMIT`."""
    tables: dict[str, list[str]] = {}
    table: list[str] = []
    for line in lines:
        if line.startswith("*"):
            table = tables.setdefault(line, [])
        elif line and line != "COMMIT":
            table.append(line)
    return tables
