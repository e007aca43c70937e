"""Whoever watches the server sees in numbers and in its log what people have done, and of no app what its name is."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.person import Person
from demo.server import Server
from tests.stories import web_app
from tests.world.working_copy import Repo

DASHBOARD = Path(__file__).resolve().parents[2] / "contrib" / "grafana-dashboard.json"


def metrics(server: Server) -> dict[str, float]:
    """Return what is measured, by name and labels."""
    with urllib.request.urlopen(f"http://{server.api}/metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def events(server: Server) -> list[dict[str, Any]]:
    """Return what the server's log has, each line of which is one JSON object."""
    lines = server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if not re.match(r"host key |ready ssh=", line)]


def test_a_good_and_a_bad_push_are_seen_in_numbers_and_in_every_line(
    new_server: Callable[..., Server], world_folder: Path, base_image: str
) -> None:
    server = new_server(SLIPWAY_LOG="json", SLIPWAY_LOCAL_IMAGES=base_image)
    carol = Person(world_folder / "carol-the-watched", "carol-the-watched")
    server.add_user(carol)
    web_app.create(carol, "watched-app")
    repo = Repo(carol, "watched-app")
    before = metrics(server)
    repo.commit(web_app.files(base_image, "1"))
    assert repo.push().returncode == 0
    repo.commit(web_app.files(base_image, "2", dockerfile="RUN exit 3"))
    assert repo.push().returncode == 1
    after = metrics(server)
    grown = {name: after[name] - before.get(name, 0) for name in after}

    assert grown['slipway_operations_total{kind="deploy",result="succeeded"}'] == 1
    assert grown['slipway_operations_total{kind="deploy",result="failed"}'] == 1
    assert grown['slipway_git_pushes_total{result="accepted"}'] == 1
    assert grown['slipway_git_pushes_total{result="refused"}'] == 1
    assert grown['slipway_step_duration_seconds_count{step="health"}'] == 1
    assert grown['slipway_build_images_total{origin="built"}'] == 1
    assert grown['slipway_build_steps_total{origin="run"}'] >= 1
    assert grown['slipway_ssh_bytes_total{direction="received"}'] > len(web_app.SERVER) / 2
    assert grown["slipway_operation_log_bytes_total"] > 0
    assert after['slipway_containers{state="running"}'] == 1
    assert after['slipway_apps{state="deployed"}'] == 1
    assert (after["slipway_operations_queued"], after["slipway_operations_running"]) == (0, 0)
    assert after["slipway_ready"] == 1
    assert not [name for name in after if "watched" in name], "metrics name an app or a user"
    _check_dashboard(after)

    lines = events(server)
    assert {line["process"] for line in lines} == {"engine", "front"}
    begins = [at for at, line in enumerate(lines) if line["event"] == "operation started"]
    ends = [at for at, line in enumerate(lines) if line["event"] in ("operation succeeded", "operation ended")]
    deploys = list(zip(begins, ends, strict=True))[-2:]
    numbers = [lines[begin]["operation"] for begin, _ in deploys]
    assert [line["operation"] for line in lines if line["event"] == "push"] == numbers
    for begin, end in deploys:
        number = lines[begin]["operation"]
        work = [line for line in lines[begin : end + 1] if line["process"] == "engine"]
        assert len(work) >= 4, "the steps of the operation are not told"
        assert {line.get("operation") for line in work} == {number}


def _check_dashboard(measured: dict[str, float]) -> None:
    """Each query of the dashboard names metrics, labels and values that there are."""
    series = [_series(name) for name in measured]
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert len(panels) > 15
    for panel in panels:
        for target in panel["targets"]:
            named: set[str] = set()
            query = target["expr"]
            for name, selector in re.findall(r"(slipway_\w+)\{([^}]*)\}", query):
                wanted = dict(re.findall(r'(\w+)="([^"]*)"', selector))
                assert wanted.pop("job") == "$job", f"{panel['title']} mixes servers"
                found = [labels for other, labels in series if other == name and wanted.items() <= labels.items()]
                assert found, f"{panel['title']}: no {name} with {wanted}"
                named |= {label for labels in found for label in labels}
            assert set(re.findall(r"slipway_\w+", query)), f"{panel['title']} asks for nothing"
            assert set(re.findall(r"slipway_\w+", query)) == set(re.findall(r"(slipway_\w+)\{", query))
            grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(",")}
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert grouped | shown <= named, f"{panel['title']}: there is no label {grouped | shown - named}"


def _series(name: str) -> tuple[str, dict[str, str]]:
    metric, _, labels = name.partition("{")
    return metric, dict(re.findall(r'(\w+)="([^"]*)"', labels))
