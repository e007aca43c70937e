"""Secrets stay in the sealed config: not in the data folder, not in logs, not in images, not in argument lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import docker

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.stories.web_app import answer, create, files, read, show
from tests.world.working_copy import Repo

PLANTED = "pl4nted/S3cret+value=%20 of 'mine'"
KEY_FILE = (
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nAmEAh1JTvLRkSJV1yj8=\n-----END PRIVATE KEY-----"
)

PRINTS_ALL = """\
import os
print(*os.environ.values(), repr(dict(os.environ)), sep="\\n", flush=True)
raise SystemExit(1)
"""


def forms(secret: str) -> list[bytes]:
    """Return the shapes in which a secret could have been written down."""
    raw = secret.encode()
    found = [raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()]
    found += [line.encode() for line in secret.splitlines() if "KEY---" not in line]
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + raw)
        found.append(encoded[4 : len(encoded) - 4])
    return [form for form in found if len(form) >= 8]


def places(folder: Path, *secrets: str) -> list[str]:
    """Return the files below `folder` in which a secret stands, in whatever shape."""
    wanted = {form for secret in secrets for form in forms(secret)}
    return [
        f"{path}: {form!r}"
        for path in folder.rglob("*")
        if path.is_file()
        for form in wanted
        if form in path.read_bytes()
    ]


def test_a_search_for_planted_secrets_finds_none(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
    engine: str,
) -> None:
    server = new_server(SLIPWAY_LOG="json")
    carol = person("carol")
    server.add_user(carol)
    password = registry.password.reveal()
    create(carol, "shop", registry.username, password)
    lines = f'PLANTED="{PLANTED}"\nKEY_FILE="{KEY_FILE}"\n'
    assert carol.ssh("config:set", "--app", "shop", "-", stdin=lines).returncode == 0
    shop = Repo(carol, "shop")
    shop.commit(files(private_base, "one"))
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    app = show(carol, "shop")
    assert answer(app["url"])["environment"]["PLANTED"] == PLANTED
    # A release that fails shows the container's last lines, and those hold everything.
    shop.commit({"server.py": PRINTS_ALL})
    failed = shop.push()
    assert failed.returncode != 0
    # A build that prints what somebody has copied into the repository; a wrong command; a failing one-step deploy.
    cut_up = "RUN printf %s 'pl4nted/S3cret'; sleep 0.2; echo \"+value=%20 of 'mine'\"; exit 1"
    shop.commit({"Dockerfile": f"FROM {private_base}\n{cut_up}\n"})
    printed = shop.push()
    assert printed.returncode != 0
    assert carol.ssh("config:set", "--app", "shop", f"9BAD={PLANTED}").returncode == 2
    assert carol.ssh("nonsense", PLANTED).returncode == 2
    wrong = carol.ssh(
        *("deploy", "--app", "shop", "--docker-image", private_base, "--git-detach"),
        *("--private-registry-username", "deploy", "--private-registry-password", PLANTED[::-1]),
    )
    assert wrong.returncode == 1
    for done in (pushed, failed, printed):
        assert not [form for form in forms(PLANTED) if form.decode() in done.stderr]
        assert "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" not in done.stderr
    assert "[secret]" in failed.stderr
    with docker.APIClient(engine) as client:
        image: str = app["image"]
        history = json.dumps([client.history(image), client.inspect_image(image)])
        assert not [form for form in forms(PLANTED) if form.decode() in history]
        assert password not in history
    server.stop()
    assert places(server.data, PLANTED, KEY_FILE, password, PLANTED[::-1]) == []
    log = server.log.read_bytes()
    assert b"operation" in log
    for secret in (PLANTED, KEY_FILE, password, PLANTED[::-1]):
        assert not [form for form in forms(secret) if form in log]


def test_the_data_folder_is_its_owners_alone(slipway: Server, alice: Person) -> None:
    assert slipway.data.stat().st_mode & 0o077 == 0
    for name in ("config.key", "ssh_host_ed25519_key", "slipway.db", "run/engine-room.sock"):
        assert (slipway.data / name).stat().st_mode & 0o077 == 0, name


def test_the_env_file_is_written_only_where_the_dockerfile_names_it_and_never_with_credentials(
    alice: Person, new_app: Callable[[Person], Repo], private_base: str, registry: Registry
) -> None:
    shop = new_app(alice)
    assert alice.ssh("config:set", "--app", shop.app, "GREETING=it's me").returncode == 0
    ends = "EXPOSE 8080\nCMD python3 server.py\n"
    without = {"Dockerfile": f"FROM {private_base}\nCOPY . .\nRUN ! test -e .aptible*env\n{ends}"}
    shop.commit(files(private_base, "one") | without)
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    step = 'RUN . ./.aptible.env && test "$GREETING" = "it\'s me" && ! grep REGISTRY .aptible.env'
    named = {"Dockerfile": f"FROM {private_base}\nADD . .\nADD .aptible.env .\n{step}\n{ends}"}
    shop.commit(named)
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    assert "--mount=type=secret" in pushed.stderr, "the better way is named"
    assert read(alice, "config", "--app", shop.app)["GREETING"] == "it's me"
