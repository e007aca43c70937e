"""The proxy in a process of its own, as in a container of its own: the server steers it, and need not start it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from demo.process import Process, ProgramError
from releaser.haproxy import Proxy
from releaser.route import Route
from store.data_folder import DataFolder
from tests.releaser.conftest import until
from tests.releaser.stand_ins import container
from tests.releaser.test_haproxy import lives, pid


def test_a_kept_proxy_is_steered_by_the_server_and_started_by_its_keeper(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    data = DataFolder(tmp_path / "data")
    words = [sys.executable, "-m", "console.program", "proxy", "--data", str(data.root)]
    port = free_port()
    with Process(words, log=tmp_path / "keeper.log") as keeper, container("there") as target:
        until((data.proxy / "keeper.lock").exists)
        with Process(words, log=tmp_path / "second.log") as second, pytest.raises(ProgramError, match="stop it first"):
            second.wait_for("never said")
        proxy = Proxy(data.proxy)
        proxy.start()
        proxy.lead(7, Route(port=port), [target])
        assert _text(port) == "there"
        master = pid(data.proxy)
        assert _parent(master) == keeper.pid, "the server started it"
        os.kill(master, signal.SIGKILL)
        # Both see that it is gone: the server waits for the keeper, who starts it with what it led to.
        until(lambda: not proxy.running)
        proxy.start()
        assert pid(data.proxy) != master
        assert _parent(pid(data.proxy)) == keeper.pid
        assert _text(port) == "there"
        last = pid(data.proxy)
        proxy.stop()
        assert lives(last), "the server stopped what is its keeper's"
        proxy.remove()
        assert not lives(last)
        proxy.start()
        last = pid(data.proxy)
        assert keeper.stop() == 0
        until(lambda: not lives(last))
    # Without a keeper the server starts it itself, as everywhere but in containers.
    proxy.start()
    assert proxy.answers()
    proxy.remove()


def _text(port: int) -> str:
    return requests.get(f"http://127.0.0.1:{port}/", timeout=30).text


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
