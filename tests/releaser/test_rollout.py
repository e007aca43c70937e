"""A release takes the place of another, or does not: seen by its visitors, its owner and its neighbours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from releaser.engine import Engine, EngineUnreachableError
from releaser.haproxy import PortInUseError, RouteTakenError
from releaser.health import OVERLAPPING_SECONDS, ExitedError, UnhealthyError
from releaser.procfile import ProcfileError
from releaser.route import Route
from releaser.services import NothingToRunError
from store.errors import CancelledError, SlipwayError, UsageError
from store.services import ServiceSettings
from tests.releaser.conftest import House, until
from tests.releaser.load import BREATH, Load

WORKERS = "web: python3 /app.py\nworker: exec python3 /app.py worker\n"


def test_deploy_over_deploy_under_load_fails_no_request(house: House) -> None:
    house.deploy({"ANSWER": "release 0"})
    with Load(house.port, pause=BREATH) as load:
        for number in range(1, 6):
            house.deploy({"ANSWER": f"release {number}"})
            assert house.answer() == f"release {number}"
    assert load.failures == []
    assert set(load.answers) == {f"release {number}" for number in range(6)}
    assert house.running() == [("cmd", 6)]


def test_the_log_says_what_is_waited_for(house: House) -> None:
    house.deploy()
    assert house.said[:2] == ["cmd: starting", "cmd: waiting up to 180 s for an answer to GET / on port 8080"]
    assert house.said[2].startswith("cmd: healthy, answered 200 after")
    assert house.said[3:] == ["cmd: takes the requests now"]


def test_a_container_knows_its_config_and_where_it_stands(house: House) -> None:
    release = house.deploy({"FROM_BOTH": "config", "APTIBLE_PROCESS_TYPE": "forged", "LINES": "a\nb='\"$x"})
    found = json.loads(house.get("/environment").text)
    assert found["FROM_IMAGE"] == "image"
    assert found["FROM_BOTH"] == "config"
    assert found["LINES"] == "a\nb='\"$x"
    assert found["APTIBLE_LAYER"] == "app"
    assert found["APTIBLE_PROCESS_TYPE"] == "cmd"
    assert found["APTIBLE_GIT_REF"] == release.git_ref


def test_a_visitor_cannot_forge_how_they_came(house: House) -> None:
    house.deploy()
    seen = json.loads(house.get("/headers", headers={"X-Forwarded-Proto": "https"}).text)
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-port"] == str(house.port)
    assert seen["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"EXIT": "3"}, ExitedError, r"exited with status 3, .*its last line was: no database at db\.internal"),
        ({"EAT": "1"}, ExitedError, r"was killed for using more memory than it has"),
        (
            {"APP_PORT": "9999", "RELEASE_HEALTHCHECK_TIMEOUT": "1"},
            UnhealthyError,
            r"GET / on port 8080, within 1 s: nothing listens there .*0\.0\.0\.0:8080.*EXPOSE",
        ),
        ({"LISTEN": "127.0.0.1", "RELEASE_HEALTHCHECK_TIMEOUT": "1"}, UnhealthyError, r"listen on 0\.0\.0\.0:8080"),
        (
            {"STRICT_HEALTH_CHECKS": "true", "HEALTH": "500", "RELEASE_HEALTHCHECK_TIMEOUT": "5"},
            UnhealthyError,
            r"GET /healthcheck on port 8080, within 5 s: it answered 500, and STRICT_HEALTH_CHECKS asks for 200",
        ),
        ({"RELEASE_HEALTHCHECK_TIMEOUT": "901"}, UsageError, r"set it to seconds, from 0 to 900"),
        ({"STRICT_HEALTH_CHECKS": "maybe"}, UsageError, r"set it to true or false"),
    ],
)
def test_a_broken_release_leaves_the_former_one_answering(
    house: House, config: dict[str, str], error: type[SlipwayError], message: str
) -> None:
    house.deploy({"ANSWER": "good"})
    with Load(house.port, clients=2, pause=BREATH) as load, pytest.raises(error, match=message):
        house.deploy({"ANSWER": "broken", **config})
    assert load.failures == []
    assert set(load.answers) == {"good"}
    assert house.running() == [("cmd", 1)]
    assert len(house.releaser.running(7)) == 1


def test_a_container_that_exits_is_noticed_at_once_and_its_words_are_shown(house: House) -> None:
    begun = time.monotonic()
    with pytest.raises(ExitedError):
        house.deploy({"EXIT": "1"})
    assert time.monotonic() - begun < 60, "it waited for the health check to run out"
    assert house.said[-3:] == ["cmd: its last lines were", "    first line", "    no database at db.internal  [31m"]


def test_a_slow_start_is_waited_for(house: House) -> None:
    house.deploy({"START_SECONDS": "2"})
    assert house.answer() == "hello"


def test_any_status_counts_as_an_answer(house: House) -> None:
    house.deploy({"STATUS": "404"})
    assert house.get().status_code == 404


def test_a_strict_health_check_may_pass(house: House) -> None:
    house.deploy({"STRICT_HEALTH_CHECKS": "true", "STATUS": "500"})
    assert house.get().status_code == 500


def test_a_body_that_fails_takes_everything_back(house: House) -> None:
    house.deploy({"ANSWER": "former"}, procfile=WORKERS)
    before = house.releaser.running(7)
    release = house.release({"ANSWER": "new"}, procfile=WORKERS)

    def commit() -> None:
        with house.releaser.rollout(release, say=house.said.append, cancelled=house.cancelled):
            assert house.answer() == "new"
            assert sorted(house.running()) == [("web", 1), ("web", 2), ("worker", 2)]
            raise OSError("disk full")

    with Load(house.port, clients=2, pause=BREATH) as load:
        with pytest.raises(OSError, match="disk full"):
            commit()
        assert house.answer() == "former"
    assert load.failures == []
    after = house.releaser.running(7)
    assert [each.id for each in after] == [each.id for each in before]
    assert all(each.running for each in after)


def test_a_failed_first_release_leaves_nothing(house: House) -> None:
    with pytest.raises(ExitedError):
        house.deploy({"EXIT": "1"})
    assert house.releaser.running(7) == []
    assert house.proxy.routes() == {}


def test_all_services_move_together(house: House) -> None:
    house.deploy({"ANSWER": "1"}, procfile=WORKERS)
    house.deploy({"ANSWER": "2"}, procfile=WORKERS)
    assert house.running() == [("web", 2), ("worker", 2)]
    with pytest.raises(ExitedError, match="service 'worker' exited with status 9"):
        house.deploy({"ANSWER": "3"}, procfile="web: python3 /app.py\nworker: exit 9\n")
    assert house.running() == [("web", 2), ("worker", 2)]
    assert house.answer() == "2"


def test_a_service_that_is_gone_from_the_procfile_is_taken_away(house: House) -> None:
    house.deploy(procfile=WORKERS)
    house.deploy(procfile="web: python3 /app.py\n")
    assert [(each.service, each.release) for each in house.releaser.running(7)] == [("web", 2)]


def test_the_procfile_is_handed_to_an_entrypoint(house: House, build: Callable[[str], str]) -> None:
    image = build('EXPOSE 8080\nENTRYPOINT ["/usr/bin/env", "-S", "A=1"]')
    house.deploy(image=image, procfile="web: env 'ANSWER=two words' python3 /app.py")
    assert house.answer() == "two words"


def test_without_an_exposed_port_it_gets_no_address_and_is_told_so(house: House, build: Callable[[str], str]) -> None:
    image = build('CMD ["python3", "/app.py"]')
    house.deploy(image=image)
    assert "no service gets an address" in house.said[-1]
    assert "EXPOSE in the Dockerfile" in house.said[-1]
    assert house.proxy.routes()[7].targets == []
    assert "This app has no running release" in house.answer()
    house.deploy({"PORT": "8080"}, image=image)
    assert house.answer() == "hello"


@pytest.mark.parametrize(
    ("dockerfile", "procfile", "error"),
    [("EXPOSE 8080\nCMD []", None, NothingToRunError), ("CMD true", "web python3", ProcfileError)],
)
def test_what_cannot_be_run_is_not_started(
    house: House, build: Callable[[str], str], dockerfile: str, procfile: str | None, error: type[SlipwayError]
) -> None:
    with pytest.raises(error):
        house.deploy(image=build(dockerfile), procfile=procfile)
    assert house.said == []


def test_a_cancelled_rollout_takes_everything_back(house: House) -> None:
    house.deploy({"ANSWER": "former"})

    def say(line: str) -> None:
        if "waiting up to" in line:
            house.cancelled.set()

    release = house.release({"START_SECONDS": "600"})
    with pytest.raises(CancelledError), house.releaser.rollout(release, say=say, cancelled=house.cancelled):
        pass
    assert house.answer() == "former"
    assert len(house.releaser.running(7)) == 1


def test_a_port_in_use_takes_everything_back(house: House, new_house: Callable[[], House]) -> None:
    neighbour = new_house()
    neighbour.deploy()
    with pytest.raises(PortInUseError):
        house.deploy(route=Route(port=neighbour.port))
    assert house.releaser.running(7) == []
    assert neighbour.answer() == "hello"


def test_a_request_under_way_is_finished_by_the_former_release(house: House) -> None:
    house.deploy({"ANSWER": "former"})
    answers: list[str] = []
    visitor = threading.Thread(target=lambda: answers.append(house.get("/slow?4").text))
    visitor.start()
    house.deploy({"ANSWER": "new"})
    visitor.join()
    assert answers == ["former"]


def test_an_app_that_crashes_later_comes_up_again_at_its_own_address(house: House) -> None:
    house.deploy()
    before = house.container("cmd").address
    assert house.get("/exit").status_code == 502
    until(lambda: house.get().status_code == 200)
    assert house.container("cmd").address == before


def test_a_program_that_is_not_there_is_named(house: House, build: Callable[[str], str]) -> None:
    with pytest.raises(ExitedError, match=r"exited with status 127, .* exec no-such-program failed"):
        house.deploy(image=build('EXPOSE 8080\nCMD ["no-such-program"]'))
    assert house.releaser.running(7) == []


def test_a_health_check_may_be_left_out(house: House) -> None:
    house.deploy({"APP_PORT": "9999", "RELEASE_HEALTHCHECK_TIMEOUT": "0"})
    assert house.said[-3:] == [
        "cmd: waiting 2 s to see that it keeps running",
        "cmd: running",
        "cmd: takes the requests now",
    ]


def test_two_apps_cannot_answer_at_one_host_name(house: House) -> None:
    house.deploy(app_id=8, app="blog", route=Route(host="blog.example"))
    with pytest.raises(RouteTakenError, match=r"another app answers at blog\.example"):
        house.deploy(route=Route(host="blog.example"))
    assert house.releaser.running(7) == []
    assert len(house.proxy.routes()[8].targets) == 1


def test_an_image_cannot_claim_to_be_another_app(house: House, build: Callable[[str], str]) -> None:
    house.deploy({"ANSWER": "victim"})
    image = build('LABEL slipway.app-id=7 slipway.operation=101 slipway.port=8080\nCMD ["python3", "/app.py"]')
    house.deploy({"ANSWER": "thief"}, app_id=8, app="thief", image=image, route=Route(host="thief.example"))
    (thief,) = house.releaser.running(8)
    assert thief.port is None
    assert len(house.releaser.running(7)) == 1
    assert house.answer() == "victim"


def test_tenants_do_not_reach_each_other(house: House) -> None:
    house.deploy()
    victim = house.container("cmd")
    house.deploy(app_id=8, app="thief", route=Route(host="thief.example"))
    (thief,) = house.releaser.running(8)
    code = f"import socket; s = socket.socket(); s.settimeout(2); s.connect(('{victim.address}', 8080))"
    ran = house.client.containers.get(thief.id).exec_run(["python3", "-c", code])
    assert ran.exit_code != 0
    forged = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    ran = house.client.containers.get(thief.id).exec_run(["python3", "-c", forged])
    assert b"PermissionError" in ran.output
    assert house.answer() == "hello"


def test_an_engine_that_is_down_is_one_sentence(house: House) -> None:
    with pytest.raises(
        EngineUnreachableError, match=r"the Docker engine at unix:///no/engine does not answer; start it"
    ):
        Engine("unix:///no/engine")


def test_a_taken_away_app_is_gone(house: House) -> None:
    house.deploy()
    house.deploy(app_id=8, app="blog", route=Route(host="blog.example"))
    house.releaser.remove(7)
    assert house.releaser.running(7) == []
    assert len(house.releaser.running(8)) == 1
    assert set(house.proxy.routes()) == {8}


def test_a_worker_is_well_when_its_healthcheck_says_so(house: House, build: Callable[[str], str]) -> None:
    image = build("HEALTHCHECK --interval=200ms --retries=15 CMD test -e /tmp/well || { echo not well; exit 1; }")
    # Well long before the checks that may fail are used up, however slow the machine is.
    well = "worker: sleep 0.3; touch /tmp/well; exec sleep 600\nclock: touch /tmp/well; exec sleep 600\n"
    house.deploy(image=image, procfile=well)
    assert any("worker: healthy, its HEALTHCHECK passed" in line for line in house.said)
    with pytest.raises(UnhealthyError, match=r"service 'worker' did not pass its image's HEALTHCHECK .*not well"):
        house.deploy(image=image, procfile="worker: exec sleep 600\nclock: touch /tmp/well; exec sleep 600\n")
    assert house.running() == [("clock", 1), ("worker", 1)]


def test_a_worker_may_overlap_with_its_successor(house: House, build: Callable[[str], str]) -> None:
    image = build("HEALTHCHECK --interval=200ms CMD test -e /tmp/well")
    procfile = "worker: touch /tmp/well; exec sleep 600\nclock: touch /tmp/well; exec sleep 600\n"
    house.deploy(image=image, procfile=procfile)
    settings = {"worker": ServiceSettings(force_zero_downtime=True)}
    release = house.release(image=image, procfile=procfile, services=settings)
    with house.releaser.rollout(release, say=house.said.append, cancelled=house.cancelled):
        assert sorted(house.running()) == [("clock", 2), ("worker", 1), ("worker", 2)]
    assert sorted(house.running()) == [("clock", 2), ("worker", 2)]


def test_scaled_containers_share_the_requests_and_have_their_limits(house: House) -> None:
    house.deploy()
    scaled = {"cmd": ServiceSettings(container_count=3, container_memory_mb=128, cpu_limit=0.5)}
    with Load(house.port, clients=4, pause=BREATH) as load:
        house.deploy(services=scaled)
    assert load.failures == []
    assert {json.loads(house.get("/environment").text)["APTIBLE_PROCESS_INDEX"] for _ in range(12)} == {"0", "1", "2"}
    limits = house.client.api.inspect_container(house.releaser.running(7)[0].id)["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"], limits["CpuShares"]) == (128 << 20, 500_000_000, 128)
    assert (limits["PidsLimit"], limits["Init"], limits["SecurityOpt"]) == (1024, True, ["no-new-privileges"])


def test_an_app_scaled_to_nothing_says_so_to_its_visitors(house: House) -> None:
    house.deploy()
    release = house.deploy(services={"cmd": ServiceSettings(container_count=0)})
    assert "is scaled to 0 containers" in house.said[-1]
    assert house.get().status_code == 503
    assert "This app has no running release" in house.answer()
    house.releaser.restore([release])
    assert "This app has no running release" in house.answer()
    house.deploy()
    assert house.answer() == "hello"


def test_a_container_that_dies_among_others_is_passed_over(house: House) -> None:
    release = house.deploy(services={"cmd": ServiceSettings(container_count=2)})
    house.client.containers.get(house.releaser.running(7)[0].id).stop(timeout=0)
    assert {house.get().status_code for _ in range(3)} == {200}
    house.releaser.mend(release)
    assert len(house.running()) == 2


def test_uptime_counts_where_somebody_prefers_it_to_the_healthcheck(
    house: House, build: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build("HEALTHCHECK --interval=200ms --retries=1 CMD false")
    worker, simple = "worker: exec sleep 600\n", ServiceSettings(simple_health_check=True, force_zero_downtime=True)
    monkeypatch.setattr("releaser.rollout.OVERLAPPING_SECONDS", 1.0)
    house.deploy(image=image, procfile=worker, services={"worker": simple})
    assert house.said[-3:-1] == ["worker: waiting 1 s to see that it keeps running", "worker: running"]
    with pytest.raises(ExitedError, match="service 'worker' exited with status 4"):
        house.deploy(image=image, procfile="worker: sleep 0.5; exit 4\n", services={"worker": simple})
    assert house.running() == [("worker", 1)]
    with pytest.raises(UnhealthyError, match=r"did not pass its image's HEALTHCHECK as often as it may fail"):
        house.deploy(image=image, procfile=worker)
    assert house.running() == [("worker", 1)]


def test_the_uptime_that_is_asked_for_is_aptibles() -> None:
    assert OVERLAPPING_SECONDS == 30


def test_a_health_check_that_hangs_is_given_up(house: House) -> None:
    house.deploy({"ANSWER": "good"})
    with pytest.raises(UnhealthyError, match=r"GET /healthcheck on port 8080, within 6 s: it takes the connection"):
        house.deploy({"HANG": "1", "STRICT_HEALTH_CHECKS": "true", "RELEASE_HEALTHCHECK_TIMEOUT": "6"})
    assert house.answer() == "good"


def test_a_container_that_runs_is_fenced_in_and_comes_up_again(house: House) -> None:
    house.deploy()
    found = house.client.api.inspect_container(house.container("cmd").id)["HostConfig"]
    assert found["RestartPolicy"]["Name"] == "unless-stopped"
    assert found["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert (found["Memory"], found["MemorySwap"], found["PidsLimit"]) == (1024 << 20, 1024 << 20, 1024)
    assert (found["Init"], found["SecurityOpt"], found["Privileged"]) == (True, ["no-new-privileges"], False)
    assert sorted(found["CapDrop"]) == ["CAP_MKNOD", "CAP_NET_RAW"] or sorted(found["CapDrop"]) == ["MKNOD", "NET_RAW"]
    inside = house.client.containers.get(house.container("cmd").id)
    told = inside.exec_run(["/bin/sh", "-c", "cat /proc/1/comm; grep NoNewPrivs /proc/self/status"]).output
    assert isinstance(told, bytes)
    assert [line.split()[-1] for line in told.splitlines()] == [b"docker-init", b"1"]
