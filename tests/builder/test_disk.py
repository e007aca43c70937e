"""A disk that is full is named, and builds go on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import disk
from builder.disk import DiskFullError
from demo.engine import private_engine
from demo.registry import Registry
from tests.builder.conftest import BOTH_BUILDERS, Workbench

DISK_BYTES = 192 << 20
"""Room for the small image and a few layers."""


@pytest.fixture(scope="module")
def small_engine(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second engine, whose disk is a small one of its own."""
    if not engine.startswith("unix://") or "slipway-" not in engine:
        pytest.skip("a second engine is started beside a private one only")
    folder = Path(engine.removeprefix("unix://")).parent.parent / "small"
    (folder / "data").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder / "data"], check=True)
    with private_engine(folder) as url:
        yield url


@BOTH_BUILDERS
def test_a_build_that_fills_the_disk_is_told_so(
    workbench: Workbench,
    small_engine: str,
    private_small: str,
    registry: Registry,
    account: Callable[[Registry], dict[str, str]],
) -> None:
    filling = f"FROM {private_small}\nRUN head -c {2 * DISK_BYTES} /dev/zero > /fill\n"
    with pytest.raises(DiskFullError, match=r"^Dockerfile line 2: RUN head .*no space left on the disk") as caught:
        workbench.build({"Dockerfile": filling}, account(registry), engine=small_engine)
    for word in (f"{small_engine.removeprefix('unix://').removesuffix('docker.sock')}data", "slipway gc"):
        assert word in str(caught.value)
    sent = {"Dockerfile": f"FROM {private_small}\nCOPY big* /\n"}
    sent_too_much = sent | {f"big{number}": bytes([number]) * (64 << 20) for number in range(4)}
    with pytest.raises(DiskFullError, match="no space left on the disk"):
        workbench.build(sent_too_much, account(registry), engine=small_engine)
    assert 0 < (disk.used(small_engine) or 0) < 90, "nothing of the failed builds is left"
    assert workbench.build(sent | {"big": "enough"}, account(registry), engine=small_engine).id


def test_only_a_disk_of_this_machine_is_looked_at(engine: str) -> None:
    assert disk.used(engine) in range(101)
