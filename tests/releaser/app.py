"""The app of the stories: what it does wrong, it is told by its config."""

import http.server
import json
import os
import socketserver
import sys
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path)
        status = int(os.environ.get("STATUS", "200"))
        text = os.environ.get("ANSWER", "hello")
        if path.path == "/slow":
            time.sleep(float(path.query))
        elif path.path == "/environment":
            text = json.dumps(dict(os.environ))
        elif path.path == "/headers":
            text = json.dumps({name.lower(): value for name, value in self.headers.items()})
        elif path.path == "/healthcheck":
            time.sleep(1e6 if "HANG" in os.environ else 0)
            status = int(os.environ.get("HEALTH", "200"))
        elif path.path == "/exit":
            os._exit(1)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


if "EXIT" in os.environ:
    print("first line", file=sys.stderr)
    print("no database at db.internal \x1b[31m", file=sys.stderr)
    sys.exit(int(os.environ["EXIT"]))
if "EAT" in os.environ:
    eaten = b"x" * (2 << 30)
time.sleep(float(os.environ.get("START_SECONDS", "0")))
if sys.argv[1:] == ["worker"]:
    print("working")
    time.sleep(1e6)
Server((os.environ.get("LISTEN", ""), int(os.environ.get("APP_PORT", "8080"))), Handler).serve_forever()
