"""The proxy's configuration as a value."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releaser.haproxy_backends import Backend, Routing, Server
from releaser.haproxy_config import Listening, certificate_list, commands, listeners, read, render, shape
from releaser.route import OWN, Certificate, Destination, Endpoint, Route, Target
from store.secret import Secret

TARGETS = st.builds(Target, st.ip_addresses(v=4).map(str), st.integers(1, 65535))
PORTS = st.integers(1, 65535)
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.example", fullmatch=True)
SERVICES = st.none() | st.sampled_from(["web", "api"])
CERTIFICATES = st.none() | st.builds(Certificate, st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
ENDPOINTS = st.lists(
    st.builds(Endpoint, st.none(), PORTS, SERVICES, st.none() | PORTS)
    | st.builds(Endpoint, HOSTS, st.none(), SERVICES, st.none() | PORTS, CERTIFICATES, st.booleans()),
    max_size=4,
).map(tuple)
ROUTES = st.builds(Route, PORTS, st.none(), ENDPOINTS) | st.builds(Route, st.none(), HOSTS, ENDPOINTS)
SERVERS = st.lists(st.one_of(st.just(Server()), st.builds(Server, TARGETS, st.sampled_from(["ready", "drain"])))).map(
    tuple
)
ROUTINGS = st.dictionaries(st.integers(1, 10**9), st.tuples(ROUTES, SERVERS), max_size=5).map(
    lambda apps: {
        app_id: Routing(app_id, route, tuple(Backend(app_id, each, servers) for each in route.destinations))
        for app_id, (route, servers) in apps.items()
    }
)
LISTENING = Listening("127.0.0.1", 8080, https_host="127.0.0.1", https_port=8443, acme_thumbprint="thumb-print_1")


@given(ROUTINGS)
def test_the_file_holds_all_that_is_to_know(routings: dict[int, Routing]) -> None:
    assert read(render(routings, LISTENING)) == routings


def test_what_an_earlier_version_wrote_is_left_out() -> None:
    former = (
        '# slipway {"app_id": 7, "route": {"also": [], "host": null, "port": 20001}, '
        '"servers": [{"state": "ready", "target": ["10.0.0.1", 80]}]}\n# slipway nonsense\n'
    )
    assert listeners(f"frontend http\n    bind 0.0.0.0:80\n{former}frontend a\n    bind ::1:20001 ssl\n") == {
        ("0.0.0.0", 80),
        ("::1", 20001),
    }
    current = {8: Routing.new(8, ROUTE)}
    assert read(former + render(current, LISTENING)) == current


@given(st.builds(Backend, st.just(7), st.just(OWN), SERVERS), st.lists(TARGETS, max_size=6, unique=True))
def test_a_switch_leaves_just_the_wanted_containers_and_drains_the_others(
    backend: Backend, targets: list[Target]
) -> None:
    before = {server.target for server in backend.servers if server.state != "maint"}
    after = backend.leading_to(targets)
    assert set(after.targets) == set(targets)
    assert {server.target for server in after.servers if server.state == "drain"} == before - set(targets)
    assert len(after.servers) >= len(backend.servers)
    assert not any(server.state == "drain" for server in after.drained().servers)


ROUTE = Route(port=20001)


def test_releases_that_follow_each_other_need_no_reload() -> None:
    routing = Routing.new(7, ROUTE)
    before = shape({7: routing}, LISTENING)
    for number in range(10):
        routing = routing.drained().leading(ROUTE, {OWN: [Target("10.0.0.1", 1000 + number)]})
    assert shape({7: routing}, LISTENING) == before


def test_more_containers_than_there_is_room_for_make_room() -> None:
    routing = Routing.new(7, ROUTE)
    grown = routing.leading(ROUTE, {OWN: [Target("10.0.0.1", port) for port in range(1, 8)]})
    assert len(grown.targets) == 7
    assert shape({7: grown}, LISTENING) != shape({7: routing}, LISTENING)


def test_new_containers_take_requests_before_old_ones_stop_to() -> None:
    routing = Routing.new(7, ROUTE)
    for address in ("10.0.0.1", "10.0.0.2"):
        routing = routing.leading(ROUTE, {OWN: [Target(address, 80)]})
    said = commands(routing)
    assert said.index("set server app-7/1 state ready") < said.index("set server app-7/0 state drain")
    assert said.index("set server app-7/1 addr 10.0.0.2 port 80") < said.index("set server app-7/1 state ready")


def test_a_destination_keeps_its_containers_when_other_endpoints_come_and_go() -> None:
    api, database = Destination("api", 9000), Destination("db", None, tcp=True)
    first = Endpoint(host="api.example", service="api", container_port=9000)
    second = Endpoint(tcp_port=30001, service="db")
    wanted = {OWN: [Target("10.0.0.1", 80)], api: [Target("10.0.0.2", 9000)], database: [Target("10.0.0.3", 5432)]}
    both = Routing.new(7, ROUTE).leading(Route(20001, endpoints=(first, second)), wanted)
    assert both.leads == wanted
    one = both.leading(Route(20001, endpoints=(second,)), {OWN: [Target("10.0.0.9", 80)], database: wanted[database]})
    assert one.backends[1] == both.backends[2], "its name too, by which a replaced worker is asked"
    assert one.draining


def test_no_private_key_is_in_the_file_and_a_certificate_is_for_its_host_name_alone() -> None:
    certificate = Certificate.of(Secret("-----BEGIN PRIVATE KEY-----"))
    endpoint = Endpoint(host="www.shop.example", certificate=certificate)
    routings = {7: Routing.new(7, Route(host="shop.example", endpoints=(endpoint,)))}
    assert "PRIVATE" not in render(routings, LISTENING)
    assert certificate.fingerprint in render(routings, LISTENING)
    assert certificate_list(routings) == f"certificates/{certificate.fingerprint}.pem www.shop.example\n"


@pytest.mark.parametrize(
    "host", ["Shop.example", "shop.example } #", "shop.example\n    bind :1", "-a.example", "", "a..b"]
)
def test_a_host_name_cannot_write_configuration(host: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        Route(host=host)


def test_haproxy_understands_it(tmp_path: Path) -> None:
    endpoints = (
        Endpoint(host="www.shop.example", redirect=True, certificate=Certificate("00")),
        Endpoint(host="api.shop.example", service="api", container_port=9000),
        Endpoint(tcp_port=30001, service="db"),
    )
    routings = {
        7: Routing.new(7, Route(port=20001)).leading(Route(port=20001), {OWN: [Target("10.0.0.1", 80)]}),
        8: Routing.new(8, Route(host="shop.apps.example", endpoints=endpoints)),
    }
    (tmp_path / "haproxy.cfg").write_text(render(routings, LISTENING))
    (tmp_path / "certificates.list").write_text("")
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program is not None
    checked = subprocess.run(
        [program, "-c", "-V", "-C", tmp_path, "-f", "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    warnings = [line for line in checked.stderr.splitlines() if line.startswith("[WARNING]")]
    assert [line for line in warnings if "no SSL certificate specified" not in line] == [], "the list is empty here"
