"""A registry with bearer tokens: the real `docker-registry`, and a token service that signs what an account may do.

The service is what the distribution project's "Token Authentication Specification" describes: it knows one account, and
everybody may pull what is under `public/`.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from demo.process import Process
from demo.registry import Registry

SERVICE = "token-registry.test"
ISSUER = "tokens.test"

_CONFIGURATION = """\
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: '{storage}'}}}}
http: {{addr: '127.0.0.1:0', secret: {secret}}}
auth:
  token: {{realm: '{realm}', service: {service}, issuer: {issuer}, rootcertbundle: '{certificate}'}}
"""


class TokenRegistry(Registry):
    """As demo.registry.Registry, with tokens instead of passwords at the registry itself."""

    def __enter__(self) -> TokenRegistry:
        self._folder.mkdir(parents=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = _certificate(self._key)
        (self._folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        self._header = _encoded({"typ": "JWT", "alg": "RS256", "x5c": chain})
        service = self
        self.asked: list[str | None] = []
        """The user names that the token service was shown, None where there was none."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service._answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 -- the name in the base class
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        configuration = self._folder / "registry.yml"
        configuration.write_text(
            _CONFIGURATION.format(
                storage=self._folder / "storage",
                secret=secrets.token_hex(16),
                realm=f"http://127.0.0.1:{self._server.server_port}/token",
                service=SERVICE,
                issuer=ISSUER,
                certificate=self._folder / "certificate.pem",
            )
        )
        program = shutil.which("docker-registry")
        assert program
        self._process = Process([program, "serve", configuration], log=self.log, environment={})
        self.host = self._process.wait_for(r"listening on (127\.0\.0\.1:\d+)")[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        super().__exit__(*_)

    def _answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, object]]:
        name = None
        if authorization:
            name, _, password = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")
            self.asked.append(name)
            if (name, password) != (self.username, self.password.reveal()):
                return 401, {"errors": [{"code": "UNAUTHORIZED"}]}
        else:
            self.asked.append(None)
        access = []
        for scope in parse_qs(urlsplit(path).query).get("scope", []):
            kind, repository, actions = scope.split(":")
            everybody = {"pull"} if repository.startswith("public/") else set()
            allowed = set(actions.split(",")) & ({"pull", "push"} if name else everybody)
            access.append({"type": kind, "name": repository, "actions": sorted(allowed)})
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": name or "", "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now}
        signed = f"{self._header}.{_encoded(claims | {'jti': secrets.token_hex(8), 'access': access})}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return 200, {"token": f"{signed}.{_base64url(signature)}"}


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def _encoded(value: dict[str, object]) -> str:
    return _base64url(json.dumps(value).encode())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
