"""Nothing is lost, stuck or half done: busy apps, ^C, cancellation, crashes at bad moments, a server that stops."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.stories import web_app
from tests.stories.web_app import answer, create, files, read, show, wait_until_operation
from tests.world.background import Background, BackgroundPush, eventually
from tests.world.gate import Gate
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]

_numbers = itertools.count(1)

HANGS = "RUN echo hanging now && sleep 600"
"""A build step that only ends by being cancelled."""

SLOW_START = 'import time\nprint("starting slowly", flush=True)\ntime.sleep(600)\n' + web_app.SERVER


@pytest.fixture(scope="module")
def breakable(new_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, Person]:
    """A server that each story may break and leave so, and carol, who uses it."""
    server = new_server(SLIPWAY_FRONT_DOORS="1")
    carol = Person(tmp_path_factory.mktemp("carol"), "carol")
    server.add_user(carol)
    return server, carol


@pytest.fixture
def own(breakable: tuple[Server, Person], registry: Registry, private_base: str) -> tuple[Server, Repo]:
    """A server that a story may break, with an app of carol's that runs version one."""
    server, carol = breakable
    if server.process is None:
        server.start()
    name = f"shop-{next(_numbers)}"
    create(carol, name, registry.username, registry.password.reveal())
    copy = Repo(carol, name)
    copy.commit(files(private_base, "one"))
    assert copy.push().returncode == 0
    return server, copy


@pytest.fixture
def quiet_engine(engine: str) -> Iterator[Callable[[str], list[str]]]:
    """Return a function that names an app's containers on the engine, builds' containers included under ''."""
    with docker.APIClient(engine) as client:

        def names(app: str) -> list[str]:
            found = client.containers(all=True)
            return sorted(name for one in found for name in one["Names"] if one["Labels"].get("slipway.app", "") == app)

        yield names


def test_a_busy_app_makes_the_next_one_wait_and_says_whom_for(
    alice: Person, new_app: NewApp, private_base: str
) -> None:
    shop, other = new_app(alice), new_app(alice)
    shop.commit(files(private_base, "one", dockerfile=HANGS))
    first = BackgroundPush(shop)
    first.wait_for("remote: hanging now")
    number = read(alice, "operations", "--app", shop.app)[0]["id"]
    other.commit(files(private_base, "other"))
    assert other.push().returncode == 0, "another app does not wait"
    shop.commit(files(private_base, "two"))
    second = BackgroundPush(shop)
    second.wait_for(f"Waiting for operation {number} (deploy of {shop.app} by alice)")
    assert alice.ssh("operation:cancel", str(number)).returncode == 0
    status, said = first.end()
    assert status != 0
    assert "cancelled" in said
    status, said = second.end()
    assert status == 0, said
    assert answer(show(alice, shop.app)["url"])["version"] == "two"
    over = alice.ssh("operation:cancel", str(number))
    assert over.returncode == 1
    assert "over already" in over.stderr


def test_any_number_follow_from_the_start_and_then_live(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one", dockerfile=HANGS))
    push = BackgroundPush(shop)
    push.wait_for("remote: hanging now")
    number = str(read(alice, "operations", "--app", shop.app)[0]["id"])
    followers = [Background(alice, "ssh", "slipway", f"operation:follow {number}") for _ in range(8)]
    for follower in followers:
        follower.wait_for("hanging now")
    followers[0].interrupt()
    push.interrupt()
    assert followers[0].end()[0] != 0
    assert push.end()[0] != 0
    assert alice.ssh("operation:cancel", number).returncode == 0
    whole = alice.ssh("operation:follow", number).stdout
    assert whole.startswith(f"Operation {number}: deploy of {shop.app}")
    for follower in followers[1:]:
        status, said = follower.end()
        assert status == 1, "it tells the operation's outcome"
        assert said == whole
    assert alice.ssh("operation:logs", number).stdout == whole


def test_a_waiting_operation_can_be_cancelled(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    commit = shop.commit(files(private_base, "one", dockerfile=HANGS))
    first = BackgroundPush(shop)
    first.wait_for("remote: hanging now")
    running = read(alice, "operations", "--app", shop.app)[0]["id"]
    shop.commit(files(private_base, "two"))
    second = BackgroundPush(shop)
    second.wait_for("Waiting for operation")
    waiting = read(alice, "operations", "--app", shop.app)[0]["id"]
    assert alice.ssh("operation:cancel", str(waiting)).returncode == 0
    status, said = second.end()
    assert status != 0
    assert "before it began" in said
    assert alice.ssh("operation:cancel", str(running)).returncode == 0
    assert first.end()[0] != 0
    assert [row["status"] for row in read(alice, "operations", "--app", shop.app)[:2]] == ["cancelled", "cancelled"]
    assert commit not in shop.remote_refs().values()


def test_a_newer_push_supersedes_one_that_waits(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "hangs", dockerfile=HANGS))
    first = BackgroundPush(shop)
    first.wait_for("remote: hanging now")
    running = read(alice, "operations", "--app", shop.app)[0]["id"]
    shop.commit(files(private_base, "overtaken"))
    second = BackgroundPush(shop)
    second.wait_for("Waiting for operation")
    shop.commit(files(private_base, "newest"))
    third = BackgroundPush(shop)
    third.wait_for("Waiting for operation")
    status, said = second.end()
    assert status != 0
    assert "superseded by operation" in said
    assert alice.ssh("operation:cancel", str(running)).returncode == 0
    assert first.end()[0] != 0
    status, said = third.end()
    assert status == 0, said
    assert answer(show(alice, shop.app)["url"])["version"] == "newest"


def test_ctrl_c_leaves_the_deploy_running(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    gate = Gate()
    commit = shop.commit(files(private_base, "interrupted", dockerfile=gate.step))
    push = BackgroundPush(shop)
    push.wait_for("remote: busy now")
    push.interrupt()
    assert push.end()[0] != 0
    gate.open()
    operation = wait_until_operation(alice, shop.app, "succeeded")
    assert answer(show(alice, shop.app)["url"])["version"] == "interrupted"
    assert shop.remote_refs()["refs/heads/master"] == commit
    followed = alice.ssh("operation:follow", str(operation["id"]))
    assert followed.returncode == 0
    assert "busy now" in followed.stdout


def test_two_pushes_at_once_end_with_one_truth(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "base"))
    assert shop.push().returncode == 0
    start = shop.git_ok("rev-parse", "HEAD")
    commits = {}
    for version in ("left", "right"):
        shop.git_ok("checkout", "--quiet", "-B", version, start)
        commits[version] = shop.commit({"version": version})
    pushes = {version: BackgroundPush(shop, f"{version}:master") for version in commits}
    ended = {version: push.end() for version, push in pushes.items()}
    won = [version for version, (status, _) in ended.items() if status == 0]
    assert len(won) == 1, ended
    lost = "right" if won == ["left"] else "left"
    assert "remote rejected" in ended[lost][1]
    assert shop.remote_refs()["refs/heads/master"] == commits[won[0]]
    assert answer(show(alice, shop.app)["url"])["version"] == won[0]


def test_a_push_that_contains_the_one_before_it_is_not_stale(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    gate = Gate()
    shop.commit(files(private_base, "contained", dockerfile=gate.step))
    first = BackgroundPush(shop)
    first.wait_for("remote: busy now")
    last = shop.commit(files(private_base, "two"))
    second = BackgroundPush(shop)
    second.wait_for("Waiting for operation")
    gate.open()
    assert first.end()[0] == 0
    status, said = second.end()
    assert status == 0, said
    assert shop.remote_refs()["refs/heads/master"] == last


def test_kill_dash_nine_during_a_build(own: tuple[Server, Repo], private_base: str) -> None:
    server, shop = own
    carol = shop.person
    before, refs = show(carol, shop.app), shop.remote_refs()
    shop.commit(files(private_base, "two", dockerfile=HANGS))
    push = BackgroundPush(shop)
    push.wait_for("remote: hanging now")
    queued = Background(carol, "ssh", "slipway", f"config:set --app {shop.app} QUEUED=1")
    queued.wait_for("Waiting for operation")
    server.kill()
    assert queued.end()[0] != 0
    assert push.end()[0] != 0
    assert answer(before["url"])["version"] == "one", "apps outlive the server"
    # As if it had been killed while it moved the branch, in the newest repository.
    repository = max((server.data / "repositories").glob("*.git"), key=lambda path: int(path.stem))
    (repository / "refs" / "heads" / "master.lock").touch()
    server.start()
    newest, cut_off = read(carol, "operations", "--app", shop.app)[:2]
    assert cut_off["status"] == "failed"
    assert "nothing was changed" in cut_off["error"]
    assert newest["type"] == "configure"
    wait_until_operation(carol, shop.app, "succeeded")
    after = show(carol, shop.app)
    assert (after["commit"], after["release"]) == (before["commit"], before["release"] + 1)
    assert shop.remote_refs() == refs
    assert answer(before["url"])["environment"]["QUEUED"] == "1"
    shop.commit(files(private_base, "three"))
    assert shop.push().returncode == 0, "nobody has to unlock anything"
    assert answer(before["url"])["version"] == "three"


def test_kill_dash_nine_during_a_release(
    own: tuple[Server, Repo], private_base: str, quiet_engine: Callable[[str], list[str]]
) -> None:
    server, shop = own
    carol = shop.person
    before, config = show(carol, shop.app), read(carol, "config", "--app", shop.app)
    containers = quiet_engine(shop.app)
    shop.commit(files(private_base, "two") | {"server.py": SLOW_START})
    assert shop.push("master:slow").returncode == 0
    deploy = Background(carol, "ssh", "slipway", f"deploy --app {shop.app} --git-commitish slow GREETING=never")
    deploy.wait_for("waiting up to")
    assert len(quiet_engine(shop.app)) == len(containers) + 1
    server.kill()
    assert deploy.end()[0] != 0
    server.start()
    eventually(lambda: quiet_engine(shop.app) == containers, "the containers of the cut-off release are still there")
    assert show(carol, shop.app) == before
    assert read(carol, "config", "--app", shop.app) == config
    assert answer(before["url"])["version"] == "one"


def test_an_engine_room_that_dies_alone_is_started_again_and_the_pusher_hears_the_truth(
    own: tuple[Server, Repo], private_base: str
) -> None:
    server, shop = own
    shop.commit(files(private_base, "two", dockerfile=HANGS))
    push = BackgroundPush(shop)
    push.wait_for("remote: hanging now")
    assert server.process
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    engine_room = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "slipway-engine"]
    assert len(engine_room) == 1
    os.kill(int(engine_room[0]), signal.SIGKILL)
    status, said = push.end()
    assert status != 0
    assert "nothing was changed" in said
    shop.commit(files(private_base, "three"))
    assert shop.push().returncode == 0
    assert answer(show(shop.person, shop.app)["url"])["version"] == "three"


def test_sigterm_lets_a_running_deploy_finish(own: tuple[Server, Repo], private_base: str) -> None:
    server, shop = own
    gate = Gate()
    shop.commit(files(private_base, "two", dockerfile=gate.step))
    push = BackgroundPush(shop)
    push.wait_for("remote: busy now")
    url = show(shop.person, shop.app)["url"]
    process = server.process
    assert process
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(server.stop)
        process.wait_for("stopping")
        gate.open()
        assert stopped.result() == 0
    status, said = push.end()
    assert status == 0, said
    assert answer(url)["version"] == "two", "apps go on answering"
    server.start()
    assert show(shop.person, shop.app)["release"] == 2


def test_a_deploy_that_outlives_the_drain_is_undone(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
) -> None:
    server = new_server(SLIPWAY_DRAIN="1")
    carol = person("carol")
    server.add_user(carol)
    create(carol, "shop", registry.username, registry.password.reveal())
    shop = Repo(carol, "shop")
    shop.commit(files(private_base, "one", dockerfile=HANGS))
    push = BackgroundPush(shop)
    push.wait_for("remote: hanging now")
    queued = Background(carol, "ssh", "slipway", "config:set --app shop QUEUED=1")
    queued.wait_for("Waiting for operation")
    assert server.stop() == 0
    status, said = push.end()
    assert status != 0
    assert "cancelled" in said
    status, said = queued.end()
    assert status != 0
    assert "runs when it is back" in said
    server.start()
    assert wait_until_operation(carol, "shop", "succeeded")["type"] == "configure"
    assert read(carol, "operations", "--app", "shop")[1]["status"] == "cancelled"
    assert read(carol, "config", "--app", "shop")["QUEUED"] == "1"
    assert shop.remote_refs() == {}


def test_what_was_deployed_comes_back_after_down(own: tuple[Server, Repo]) -> None:
    server, shop = own
    url = show(shop.person, shop.app)["url"]
    server.down()
    assert not web_app.answers(url)
    server.start()
    eventually(lambda: web_app.answers(url), "the app does not come back")
    assert answer(url)["version"] == "one"
