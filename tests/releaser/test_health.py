"""What is told of a service that does not get healthy."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import cast

import pytest

from releaser.container import Container
from releaser.engine import Engine
from releaser.health import Nursery, Policy, UnhealthyError


def test_an_answer_is_told_though_the_last_question_was_cut_short() -> None:
    asked, over = threading.Semaphore(0), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked.acquire(blocking=False):
                over.wait(20)
                return
            asked.release()
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    engine = cast(Engine, SimpleNamespace(last_lines=lambda identifier, count: []))
    container = cast(Container, SimpleNamespace(id="1", title="web", address="127.0.0.1"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        nursery = Nursery(engine, say=lambda line: None, cancelled=threading.Event())
        try:
            with pytest.raises(UnhealthyError, match="within 1 s: it answered 500"):
                nursery.wait_answering(container, server.server_port, Policy(1, strict=True), "shop")
        finally:
            over.set()
            server.shutdown()
