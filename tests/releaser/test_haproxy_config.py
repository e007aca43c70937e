"""The proxy's configuration as a value."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releaser.haproxy_config import Backend, Listening, Server, Target, commands, read, render, shape
from releaser.release import Route

TARGETS = st.builds(Target, st.ip_addresses(v=4).map(str), st.integers(1, 65535))
ROUTES = st.one_of(
    st.builds(Route, port=st.integers(1, 65535)),
    st.builds(Route, host=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.example", fullmatch=True)),
)
SERVERS = st.lists(st.one_of(st.just(Server()), st.builds(Server, TARGETS, st.sampled_from(["ready", "drain"])))).map(
    tuple
)
BACKENDS = st.lists(st.builds(Backend, st.integers(1, 10**9), ROUTES, SERVERS)).map(
    lambda backends: {backend.app_id: backend for backend in backends}
)
LISTENING = Listening("127.0.0.1", 8080)


@given(BACKENDS)
def test_the_file_holds_all_that_is_to_know(backends: dict[int, Backend]) -> None:
    assert read(render(backends, LISTENING)) == backends


@given(st.builds(Backend, st.just(7), ROUTES, SERVERS), st.lists(TARGETS, max_size=6, unique=True))
def test_a_switch_leaves_just_the_wanted_containers_and_drains_the_others(
    backend: Backend, targets: list[Target]
) -> None:
    before = {server.target for server in backend.servers if server.state != "maint"}
    after = backend.leading_to(targets)
    assert set(after.targets) == set(targets)
    assert {server.target for server in after.servers if server.state == "drain"} == before - set(targets)
    assert len(after.servers) >= len(backend.servers)
    assert not any(server.state == "drain" for server in after.drained().servers)


def test_releases_that_follow_each_other_need_no_reload() -> None:
    backend = Backend(7, Route(port=20001))
    before = shape({7: backend}, LISTENING)
    for number in range(10):
        backend = backend.drained().leading_to([Target("10.0.0.1", 1000 + number)])
    assert shape({7: backend}, LISTENING) == before


def test_more_containers_than_there_is_room_for_make_room() -> None:
    backend = Backend(7, Route(port=20001))
    grown = backend.leading_to([Target("10.0.0.1", port) for port in range(1, 8)])
    assert len(grown.targets) == 7
    assert shape({7: grown}, LISTENING) != shape({7: backend}, LISTENING)


def test_new_containers_take_requests_before_old_ones_stop_to() -> None:
    backend = Backend(7, Route(port=20001)).leading_to([Target("10.0.0.1", 80)]).leading_to([Target("10.0.0.2", 80)])
    said = commands(backend)
    assert said.index("set server app-7/1 state ready") < said.index("set server app-7/0 state drain")
    assert said.index("set server app-7/1 addr 10.0.0.2 port 80") < said.index("set server app-7/1 state ready")


@pytest.mark.parametrize(
    "host", ["Shop.example", "shop.example } #", "shop.example\n    bind :1", "-a.example", "", "a..b"]
)
def test_a_host_name_cannot_write_configuration(host: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        Route(host=host)


def test_haproxy_understands_it(tmp_path: Path) -> None:
    backends = {
        7: Backend(7, Route(port=20001)).leading_to([Target("10.0.0.1", 80)]),
        8: Backend(8, Route(host="shop.apps.example")),
    }
    (tmp_path / "haproxy.cfg").write_text(render(backends, LISTENING))
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program is not None
    checked = subprocess.run(
        [program, "-c", "-V", "-C", tmp_path, "-f", "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
