"""A web app that says which version it is, and greets with what its config says."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "1"


class App(BaseHTTPRequestHandler):
    """Answer every request with one line."""

    def do_GET(self) -> None:
        """Greet."""
        greeting = os.environ.get("GREETING", "hello")
        body = f"{greeting} from version {VERSION}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), App).serve_forever()
