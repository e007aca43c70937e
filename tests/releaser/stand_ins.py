"""What stands in for containers where only the proxy is tested, and how to ask them."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import requests

from releaser.route import Target


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def container(text: str, held: threading.Event | None = None) -> Iterator[Target]:
    """Serve `text`, `/held` only when `held` is set, and `/headers` with the fields of the request, a line each."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/held" and held is not None:
                held.wait(30)
            answer = str(self.headers) if self.path == "/headers" else text
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *arguments: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Target("127.0.0.1", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def get(port: int, path: str = "/", host: str | None = None) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host} if host else {}, timeout=30)
