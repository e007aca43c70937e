"""A small web app to deploy: it answers with its version, a greeting from config, and whatever else a story needs."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from subprocess import CompletedProcess
from typing import Any

from demo.person import Person

SERVER = """\
import http.server, json, os, pathlib, signal, sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
version = pathlib.Path("version").read_text().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"version": version, "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

print("serving", version, flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def files(base: str, version: str, **more: str | None) -> dict[str, str | bytes | None]:
    """Return the app's repository; `more` adds lines to the Dockerfile by the name `dockerfile`."""
    extra = more.get("dockerfile") or ""
    return {
        "Dockerfile": f"FROM {base}\nWORKDIR /app\nCOPY . .\n{extra}\nEXPOSE 8080\n"
        'CMD ["python3", "-u", "server.py"]\n',
        "server.py": SERVER,
        "version": version,
    }


def answer(url: str) -> dict[str, Any]:
    """Return what the app at `url` answers: `version` and `environment`."""
    with urllib.request.urlopen(url, timeout=20) as response:
        return dict(json.loads(response.read()))


def answers(url: str) -> bool:
    """Return whether anything but the proxy's own refusal comes from `url`."""
    try:
        answer(url)
    except (urllib.error.HTTPError, OSError):
        return False
    return True


def said(done: CompletedProcess[str]) -> list[str]:
    """Return the lines that the server said in a push."""
    return [line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines() if line.startswith("remote: ")]


def show(person: Person, app: str) -> dict[str, Any]:
    """Return `apps:show --json`."""
    return dict(read(person, "apps:show", "--app", app))


def read(person: Person, *words: str) -> Any:
    """Run a command with --json and return what it printed."""
    done = person.ssh(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def create(person: Person, app: str, username: str = "", password: str = "") -> None:
    """Make an app, with registry credentials if they are given."""
    assert person.ssh("apps:create", app).returncode == 0
    if username:
        lines = f"APTIBLE_PRIVATE_REGISTRY_USERNAME={username}\nAPTIBLE_PRIVATE_REGISTRY_PASSWORD={password}\n"
        done = person.ssh("config:set", "--app", app, "-", stdin=lines)
        assert done.returncode == 0, done.stdout + done.stderr


def wait_until_operation(person: Person, app: str, status: str, seconds: float = 60) -> dict[str, Any]:
    """Return the app's newest operation once it has the status; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        newest: dict[str, Any] = read(person, "operations", "--app", app)[0]
        if newest["status"] == status:
            return newest
        assert time.monotonic() < deadline, f"operation {newest['id']} is {newest['status']}, not {status}"
        time.sleep(0.05)
