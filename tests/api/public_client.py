"""Plays what Aptible's command line sends, request by request: a HAL client, and OpenSSH for the portal.

It follows links and never makes up an address but the few that the command line begins with.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import requests

ACCEPT = {"json": "application/json", "hal": "application/hal+json"}

SECONDS = 120.0
"""When an answer, or a session, counts as stuck."""


class RefusalError(AssertionError):
    """An answer with a status of 400 or more."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}")
        self.status = answer.status_code
        self.body: dict[str, Any] = answer.json()


class PublicClient:
    """One user of the command line, at a home folder of their own."""

    def __init__(self, root: str, home: Path, accept: str = "json") -> None:
        self.root = root
        self.home = home
        self.verify: str | bool = True
        self.accept = ACCEPT[accept]
        self.token = ""
        self._key = home / "aptible-ssh" / "id_rsa"
        self._session = requests.Session()
        self._session.trust_env = False

    # HAL

    def ask(self, method: str, href: str, body: object = None, *, sensitive: bool = False) -> requests.Response:
        """Send a request as the command line would, and return whatever comes."""
        headers = {"Accept": self.accept, "Prefer": f"no_sensitive_extras={'false' if sensitive else 'true'}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            data = json.dumps(body)
        url = href if href.startswith("http") else self.root + href
        return self._session.request(method, url, data=data, headers=headers, timeout=SECONDS, verify=self.verify)

    def read(self, method: str, href: str, body: object = None, *, sensitive: bool = False) -> dict[str, Any]:
        """Send a request and return the resource; raises RefusalError."""
        answer = self.ask(method, href, body, sensitive=sensitive)
        if answer.status_code >= 400:
            raise RefusalError(answer)
        assert answer.headers["Content-Type"].startswith("application/hal+json")
        return dict(answer.json())

    def follow(self, resource: dict[str, Any], relation: str) -> dict[str, Any]:
        """Return what a link leads to."""
        return self.read("GET", resource["_links"][relation]["href"])

    def create(self, resource: dict[str, Any], relation: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Create in a collection: read it, then post to its own link."""
        return self.read("POST", self.follow(resource, relation)["_links"]["self"]["href"], fields)

    def everything(self, href: str) -> list[dict[str, Any]]:
        """Return all of a collection, page by page."""
        found: list[dict[str, Any]] = []
        next_page: str | None = href
        while next_page:
            page = self.read("GET", next_page)
            (resources,) = page["_embedded"].values()
            found += resources
            next_page = page["_links"].get("next", {}).get("href")
        return found

    # What every command begins with

    def log_in(self, username: str, password: str, *, form: bool = True, **more: Any) -> requests.Response:
        """Ask for a token, and keep it if there is one."""
        fields = {"grant_type": "password", "username": username, "password": password, "scope": "manage", **more}
        how: dict[str, Any] = {"data": fields} if form else {"json": fields}
        answer = self._session.post(f"{self.root}/tokens", timeout=SECONDS, verify=self.verify, **how)
        assert answer.headers["Content-Type"] == "application/json"
        if answer.ok:
            self.token = answer.json()["access_token"]
        return answer

    def claims(self) -> dict[str, Any]:
        """Return what the token says, unverified, as the command line reads it."""
        body = self.token.split(".")[1]
        return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))

    def app(self, handle: str, environment: str | None = None) -> dict[str, Any]:
        """Find an app as `--app` and `--environment` do."""
        assert self.everything("/reauthenticate_organizations") == []
        query = f"/find/app?handle={handle}"
        if environment is not None:
            found = self.read("GET", f"/find/account?handle={environment}")
            query += f"&environment={found['handle']}"
        return self.read("GET", query)

    def apps_create(self, handle: str, environment: str) -> dict[str, Any]:
        """`apps:create HANDLE --environment ENVIRONMENT`."""
        return self.create(self.read("GET", f"/find/account?handle={environment}"), "apps", {"handle": handle})

    def config(self, handle: str) -> dict[str, str]:
        """`config --app HANDLE`."""
        link = self.app(handle)["_links"].get("current_configuration")
        return {} if link is None else dict(self.read("GET", link["href"], sensitive=True)["env"])

    def operate(self, handle: str, **fields: Any) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
        """Open an operation of an app and watch it in the portal; return the operation at its end and what was said."""
        return self.watch(self.create(self.app(handle), "operations", fields))

    def scale(
        self, handle: str, service: str, **fields: Any
    ) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
        """`apps:scale SERVICE --app HANDLE …`."""
        (found,) = [each for each in self.app(handle)["_embedded"]["services"] if each["process_type"] == service]
        return self.watch(self.create(found, "operations", {"type": "scale", **fields}))

    def watch(self, operation: dict[str, Any]) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
        """Attach to an operation's log until it ends."""
        said = self.portal(operation)
        return self.follow(operation, "self"), said

    # The portal

    def connection(self, operation: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """Ask for a portal connection and return the words of ssh that go with it."""
        folder = self._key.parent
        if not self._key.exists():
            folder.mkdir(parents=True, mode=0o700)
            subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", self._key], check=True)
            (folder / "config").write_text("")
        key = self._key.with_suffix(".pub").read_text()
        made = self.create(operation, "ssh_portal_connections", {"ssh_public_key": key})
        stack = self.follow(self.follow(operation, "account"), "stack")
        (folder / "id_rsa-cert.pub").write_text(made["ssh_certificate_body"])
        host, port = stack["ssh_portal_host"], stack["ssh_portal_port"]
        (folder / "known_hosts").write_text(f"[{host}]:{port} {stack['ssh_host_rsa_public_key']}\n")
        words = ["ssh", f"{made['ssh_user']}@{host}", "-p", str(port), "-i", str(self._key)]
        words += ["-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={folder}/known_hosts"]
        words += ["-o", "StrictHostKeyChecking=yes"]
        words += [] if made["ssh_pty"] else ["-T"]
        words += ["-o", "LogLevel=ERROR", "-F", str(folder / "config"), "-o", "SendEnv=ACCESS_TOKEN"]
        return words, made

    def portal(self, operation: dict[str, Any], *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Connect to the portal and return what it said, to the end."""
        return self.connect(self.connection(operation)[0], *more, stdin=stdin)

    def connect(self, words: list[str], *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run ssh with words that `connection` has returned."""
        return subprocess.run(
            [*words, *more],
            env={"PATH": "/usr/bin:/bin", "ACCESS_TOKEN": self.token},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
