"""Everything that can be wrong with a deploy ends in one sentence, a non-zero exit, and nothing changed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import PROGRAM, Server
from tests.stories import web_app
from tests.stories.web_app import answer, create, files, read, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]
Files = Mapping[str, str | bytes | None]


@pytest.fixture(scope="module")
def running(alice: Person, registry: Registry, private_base: str) -> Repo:
    """An app that runs version one; every story here tries to break it."""
    create(alice, "unbroken", registry.username, registry.password.reveal())
    copy = Repo(alice, "unbroken")
    copy.commit(files(private_base, "one"))
    assert copy.push().returncode == 0
    return copy


def refused(copy: Repo, commit: Files, *expected: str) -> str:
    """Push what cannot be deployed; the reason is in the ref's report and nothing has changed."""
    before = show(copy.person, copy.app), answer(show(copy.person, copy.app)["url"]), copy.remote_refs()
    good = copy.git_ok("rev-parse", "HEAD")
    copy.commit(commit)
    pushed = copy.push()
    copy.git_ok("reset", "--quiet", "--hard", good)
    assert pushed.returncode != 0
    report = [line for line in pushed.stderr.splitlines() if "[remote rejected]" in line]
    assert len(report) == 1, pushed.stderr
    for text in expected:
        assert text in report[0], pushed.stderr
    after = show(copy.person, copy.app), answer(show(copy.person, copy.app)["url"]), copy.remote_refs()
    assert after == before
    newest = read(copy.person, "operations", "--app", copy.app)[0]
    assert newest["status"] == "failed"
    assert newest["error"] in pushed.stderr
    return pushed.stderr


def test_no_dockerfile(running: Repo) -> None:
    refused(running, {"Dockerfile": None}, "Dockerfile")


def test_a_dockerfile_that_does_not_parse(running: Repo, private_base: str) -> None:
    refused(running, {"Dockerfile": f"FROM {private_base}\nRUM echo\n"}, "line 2", "RUM")


def test_a_step_that_fails(running: Repo, private_base: str) -> None:
    said = refused(running, {"Dockerfile": f"FROM {private_base}\nRUN echo so far; exit 7\n"}, "7")
    assert "so far" in said


def test_an_image_that_does_not_exist(running: Repo, registry: Registry) -> None:
    refused(running, {"Dockerfile": f"FROM {registry.host}/private/none:1\n"}, f"{registry.host}/private/none:1")


def test_a_registry_that_nobody_answers_at(running: Repo, free_port: Callable[[], int]) -> None:
    host = f"127.0.0.1:{free_port()}"
    refused(running, {"Dockerfile": f"FROM {host}/a/b\n"}, host)


def test_no_command_and_no_procfile(running: Repo, private_base: str) -> None:
    refused(running, {"Dockerfile": f"FROM {private_base}\nCMD []\n"}, "CMD", "Procfile")


def test_a_container_that_exits_at_once_shows_its_last_lines(running: Repo, private_base: str) -> None:
    said = refused(
        running,
        {"Dockerfile": f'FROM {private_base}\nEXPOSE 8080\nCMD ["sh", "-c", "echo my last words; exit 4"]\n'},
        "4",
    )
    assert "my last words" in said


def test_a_port_that_nothing_listens_on(running: Repo, private_base: str) -> None:
    person, app = running.person, running.app
    assert person.ssh("config:set", "--app", app, "RELEASE_HEALTHCHECK_TIMEOUT=2").returncode == 0
    dockerfile = f'FROM {private_base}\nEXPOSE 9999\nCMD ["sleep", "600"]\n'
    refused(running, {"Dockerfile": dockerfile}, "9999")


def test_credentials_that_are_missing_or_wrong_name_registry_image_and_variable(
    alice: Person, running: Repo, registry: Registry, private_base: str
) -> None:
    name, password = "APTIBLE_PRIVATE_REGISTRY_USERNAME", "APTIBLE_PRIVATE_REGISTRY_PASSWORD"
    create(alice, "no-credentials")
    copy = Repo(alice, "no-credentials")
    copy.commit(files(private_base, "one"))
    missing = copy.push()
    assert missing.returncode != 0
    for text in (registry.host, private_base, name, password):
        assert text in missing.stderr
    done = alice.ssh("config:set", "--app", "no-credentials", "-", stdin=f"{name}=deploy\n{password}=expired-4711\n")
    assert done.returncode == 0
    wrong = copy.push()
    assert wrong.returncode != 0
    for text in (registry.host, private_base, password):
        assert text in wrong.stderr
    assert "expired-4711" not in wrong.stderr
    assert copy.remote_refs() == {}
    deploy = alice.ssh(
        *("deploy", "--app", "no-credentials", "--docker-image", private_base),
        *("--private-registry-username", "deploy", "--private-registry-password", "expired-4711"),
    )
    assert deploy.returncode == 1
    assert "expired-4711" not in deploy.stdout + deploy.stderr
    assert read(alice, "config", "--app", "no-credentials") == {name: "deploy", password: "expired-4711"}


def test_a_failed_deploy_with_config_leaves_the_config(running: Repo, private_base: str) -> None:
    person, app = running.person, running.app
    before = read(person, "config", "--app", app)
    good = running.git_ok("rev-parse", "HEAD")
    running.commit({"Dockerfile": f"FROM {private_base}\nRUN false\n"})
    assert running.push("master:broken").returncode == 0
    running.git_ok("reset", "--quiet", "--hard", good)
    failed = person.ssh("deploy", "--app", app, "--git-commitish", "broken", "GREETING=never")
    assert failed.returncode == 1
    assert read(person, "config", "--app", app) == before
    assert answer(show(person, app)["url"])["version"] == "one"


def test_config_that_breaks_the_app_is_taken_back(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    server = web_app.SERVER.replace(
        "print(", 'os.environ.get("BREAK") and sys.exit("cannot live with BREAK")\nprint(', 1
    )
    shop.commit(files(private_base, "one") | {"server.py": server})
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    failed = alice.ssh("config:set", "--app", shop.app, "BREAK=1")
    assert failed.returncode == 1
    assert "cannot live with BREAK" in failed.stdout
    assert "BREAK" not in read(alice, "config", "--app", shop.app)
    assert answer(url)["version"] == "one"
    assert show(alice, shop.app)["release"] == 1


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("apps:show", "--app", "no-such-app"), 3, "no app 'no-such-app'"),
        (("config", "--app", "../../etc"), 3, "no app '../../etc'"),
        (("apps:create", "../up"), 2, "'../up' cannot be an app's name"),
        (("apps:create", "UPPER"), 2, "lower-case"),
        (("apps:create", "-x"), 2, "-x"),
        (("apps:create", "unbroken"), 1, "taken"),
        (("config:set", "--app", "unbroken"), 2, "KEY=VALUE"),
        (("config:set", "--app", "unbroken", "9KEY=v"), 2, "'9KEY'"),
        (("config:set", "--app", "unbroken", "A B=v"), 2, "'A B'"),
        (("config:unset", "--app", "unbroken", "A-B"), 2, "'A-B'"),
        (("config:get", "--app", "unbroken", "NONE"), 1, "'NONE'"),
        (("deploy", "--app", "unbroken", "--git-commitish", "nowhere"), 1, "'nowhere'"),
        (("deploy", "--app", "unbroken"), 2, "--git-commitish"),
        (("deploy", "--app", "unbroken", "--docker-image", "x:1"), 2, "--git-detach"),
        (("deploy", "--app", "unbroken", "--git-commitish", "a", "--docker-image", "b"), 2, "choose one"),
        (("rollback", "--app", "unbroken", "4711"), 1, "4711"),
        (("rollback", "--app", "unbroken", "x"), 2, "'x'"),
        (("operation:logs", "999999"), 3, "999999"),
        (("keys:add", "ssh-dss", "AAAA"), 2, "ssh-dss"),
        (("users",), 3, "administrator"),
        (("frobnicate", "SECRET=hunter2"), 2, "'frobnicate'"),
        (("restart",), 2, "--app"),
        (("restart", "--app", "unbroken", "TOKEN=hunter2"), 2, "TOKEN=[secret]"),
    ],
)
def test_words_that_are_off(alice: Person, running: Repo, words: tuple[str, ...], status: int, expected: str) -> None:
    done = alice.ssh(*words)
    assert done.returncode == status, done.stdout + done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_longest_value_and_one_character_more(running: Repo) -> None:
    person, app = running.person, running.app
    assert person.ssh("config:set", "--app", app, "-", stdin="LONG=" + "x" * 65_536).returncode == 0
    assert len(read(person, "config", "--app", app)["LONG"]) == 65_536
    too_long = person.ssh("config:set", "--app", app, "-", stdin="LONG=" + "y" * 65_537)
    assert too_long.returncode == 2
    assert "65,537 characters" in too_long.stderr
    assert person.ssh("config:unset", "--app", app, "LONG").returncode == 0


def test_an_engine_that_is_down_is_said_to_be_down(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    tmp_path: Path,
    engine: str,
    registry: Registry,
    private_base: str,
) -> None:
    server = new_server(DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    carol = person("carol")
    server.add_user(carol)
    create(carol, "shop", registry.username, registry.password.reveal())
    copy = Repo(carol, "shop")
    copy.commit(files(private_base, "one"))
    pushed = copy.push()
    assert pushed.returncode != 0
    assert f"{tmp_path}/none.sock" in pushed.stderr
    server.stop()
    server.environment["DOCKER_HOST"] = engine  # for `down` at the end


def test_a_port_in_use_is_one_sentence(tmp_path: Path, engine: str, person: Callable[[str], Person]) -> None:
    server = Server(tmp_path / "data", engine)
    server.init(person("admin"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*PROGRAM, "serve", "--data", server.data, "--ssh", f"127.0.0.1:{port}", "--api", "127.0.0.1:0"],
            env=server.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr
    assert "SLIPWAY_SSH" in done.stderr


def test_one_server_serves_a_data_folder(slipway: Server) -> None:
    words = [*PROGRAM, "serve", "--data", str(slipway.data), "--ssh", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    second = subprocess.run(words, env=slipway.environment, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "another server is serving" in second.stderr


def test_a_folder_that_is_none_is_not_served(tmp_path: Path) -> None:
    words = [*PROGRAM, "serve", "--data", str(tmp_path / "none")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "slipway init" in done.stderr
    assert not (tmp_path / "none").exists()
