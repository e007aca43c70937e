"""The Procfile: which services an app has, one `name: command` a line.

The format is Foreman's (its manual, section "PROCFILE"): names of letters, digits, `_` and `-`, then a colon, then a
command for the shell. Empty lines and lines that begin with `#` say nothing.
"""

from __future__ import annotations

import re

from store.errors import UsageError

MAX_SERVICES = 50
"""Services of one app. Each is at least one container, and every app shares the engine with others."""

MAX_COMMAND = 65_536
"""Characters of one command; the kernel takes no longer single argument than 128 KiB (execve(2))."""

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)[ \t]*:[ \t]*(?P<command>.*)\Z")

MAX_NAME = 63
"""Characters of a service's name. It becomes part of container names and log lines; 63 is a DNS label's length."""


class ProcfileError(UsageError):
    """The Procfile does not say which services there are. Nothing was started."""


def parse(text: str) -> dict[str, str]:
    """Return the commands by service name, in the file's order.

    Raises ProcfileError, which names the line, for anything but the format above.
    """
    commands: dict[str, str] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ProcfileError(
                f"line {number} of the Procfile is not of the form 'name: command', with a name of letters, digits, "
                "'_' and '-'"
            )
        name, command = match["name"], match["command"]
        fault = None
        if len(name) > MAX_NAME:
            fault = f"has a service name of more than {MAX_NAME} characters; shorten it"
        elif name in commands:
            fault = f"names the service '{name}' a second time; keep one of the two"
        elif not command:
            fault = f"gives the service '{name}' no command; write one after the colon, or remove the line"
        elif "\0" in command:
            fault = f"has a NUL byte in the command of '{name}'; remove it"
        elif len(command) > MAX_COMMAND:
            fault = f"has a command of more than {MAX_COMMAND} characters; move it to a script in the image"
        if fault:
            raise ProcfileError(f"line {number} of the Procfile {fault}")
        commands[name] = command
    if not commands:
        raise ProcfileError("the Procfile names no service; write lines of the form 'name: command', or remove it")
    if len(commands) > MAX_SERVICES:
        raise ProcfileError(f"the Procfile names {len(commands)} services, {MAX_SERVICES} is the most an app can have")
    return commands
