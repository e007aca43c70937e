"""What a registry is asked, and what its answers mean; on a registry with bearer tokens and on one with passwords."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from builder import bases, reference, registry
from builder.credentials import PASSWORD, Credentials, RegistryCredentials
from builder.engine import TimeLimitError
from builder.registry import (
    LONGEST_ANSWER,
    MOST_REDIRECTS,
    CredentialsMissingError,
    CredentialsRefusedError,
    ImageNotFoundError,
    Permission,
    RegistryUnreachableError,
)
from builder.registry_connection import is_loopback, open_session
from demo.registry import Registry
from store.errors import CancelledError, SlipwayError
from store.secret import Secret
from tests.builder.conftest import Log, Workbench
from tests.builder.token_registry import TokenRegistry

WRONG = Credentials(Secret("nobody"), Secret("expired"), what=f"the password in {PASSWORD}")


def ask(image: reference.Reference, credentials: Credentials | None) -> Permission:
    with open_session(image.host) as session:
        return registry.ask(image, credentials, session)


def of(owner: Registry) -> Credentials:
    return Credentials(Secret(owner.username), owner.password)


class TestTokens:
    def test_an_account_gets_its_private_image(self, token_registry: TokenRegistry, small_image: str) -> None:
        private = reference.parse(token_registry.push(small_image, "team/app:1"))
        permission = ask(private, of(token_registry))
        assert permission.digest.startswith("sha256:")
        assert permission.credentials == of(token_registry)

    def test_without_credentials_it_is_missing_credentials(
        self, token_registry: TokenRegistry, small_image: str
    ) -> None:
        private = reference.parse(token_registry.push(small_image, "team/app:1"))
        with pytest.raises(CredentialsMissingError, match=f"{token_registry.host} does not give {private} without"):
            ask(private, None)

    def test_with_wrong_credentials_they_are_refused(self, token_registry: TokenRegistry, small_image: str) -> None:
        private = reference.parse(token_registry.push(small_image, "team/app:1"))
        with pytest.raises(CredentialsRefusedError, match=f"the password in {PASSWORD} is wrong or has expired"):
            ask(private, WRONG)

    def test_a_public_image_needs_nothing(self, token_registry: TokenRegistry, small_image: str) -> None:
        public = reference.parse(token_registry.push(small_image, "public/base:1"))
        assert ask(public, None).credentials is None

    def test_a_public_image_is_had_although_the_credentials_are_wrong(
        self, token_registry: TokenRegistry, small_image: str
    ) -> None:
        public = reference.parse(token_registry.push(small_image, "public/base:1"))
        permission = ask(public, WRONG)
        assert (permission.credentials, permission.credentials_refused) == (None, True)

    def test_an_image_that_does_not_exist(self, token_registry: TokenRegistry) -> None:
        with pytest.raises(ImageNotFoundError, match=r"has no image .*/team/gone:latest"):
            ask(reference.parse(f"{token_registry.host}/team/gone"), of(token_registry))

    def test_a_build_goes_on_without_credentials_that_are_refused_and_says_so(
        self, workbench: Workbench, token_registry: TokenRegistry, small_image: str
    ) -> None:
        public = token_registry.push(small_image, "public/base:1")
        log = Log()
        config = {"APTIBLE_PRIVATE_REGISTRY_USERNAME": "nobody", PASSWORD: "expired-7"}
        workbench.build({"Dockerfile": f"FROM {public}\nRUN true\n"}, config, log=log)
        assert f"{token_registry.host} refuses the app's registry credentials" in str(log)
        assert "expired-7" not in str(log)

    def test_a_private_base_is_built_from(
        self, workbench: Workbench, token_registry: TokenRegistry, small_image: str
    ) -> None:
        private = token_registry.push(small_image, "team/base:1")
        config = {
            "APTIBLE_PRIVATE_REGISTRY_USERNAME": token_registry.username,
            PASSWORD: token_registry.password.reveal(),
        }
        image = workbench.build({"Dockerfile": f"FROM {private}\nRUN echo built > /x\n"}, config)
        assert workbench.run(image, "cat", "/x") == "built\n"


class TestPasswords:
    def test_the_digest_names_the_same_image_as_the_tag(self, registry: Registry, private_small: str) -> None:
        by_tag = reference.parse(private_small)
        digest = ask(by_tag, of(registry)).digest
        assert ask(reference.parse(by_tag.at(digest)), of(registry)).digest == digest


class Hostile(BaseHTTPRequestHandler):
    """Answers as told, and notes what it was shown."""

    answer: Callable[[Hostile], None]
    shown: list[str | None]

    def do_GET(self) -> None:
        self.shown.append(self.headers.get("Authorization"))
        type(self).answer(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 -- the name in the base class
        pass


@contextmanager
def hostile(answer: Callable[[Hostile], None]) -> Iterator[tuple[str, list[str | None]]]:
    """Run a registry of somebody who means harm: its host, and the Authorization headers that it got."""
    shown: list[str | None] = []
    handler = type("Handler", (Hostile,), {"answer": staticmethod(answer), "shown": shown})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", shown
        server.shutdown()


class TestHostileRegistries:
    def test_a_token_service_without_tls_gets_no_credentials(self) -> None:
        challenge = {"WWW-Authenticate": 'Bearer realm="http://tokens.example/token",service="x"'}
        with hostile(lambda it: it.say(401, challenge)) as (host, shown):
            with pytest.raises(RegistryUnreachableError, match="without TLS, so they were not sent"):
                ask(reference.parse(f"{host}/x"), WRONG)
            assert shown == [None]

    def test_a_redirect_carries_no_credentials_to_another_host(self) -> None:
        with hostile(lambda it: it.say(404, {})) as (other, stolen):

            def answer(it: Hostile) -> None:
                if it.headers.get("Authorization"):
                    it.say(307, {"Location": f"http://{other}/v2/x/manifests/latest"})
                else:
                    it.say(401, {"WWW-Authenticate": 'Basic realm="x"'})

            with hostile(answer) as (host, shown):
                with pytest.raises(ImageNotFoundError):
                    ask(reference.parse(f"{host}/x"), WRONG)
                assert any(shown)
            assert stolen
            assert not any(stolen)

    def test_a_redirect_to_an_address_without_tls_is_not_followed(self) -> None:
        elsewhere = {"Location": "http://metadata.example/"}
        with hostile(lambda it: it.say(307, elsewhere)) as (host, _), pytest.raises(RegistryUnreachableError):
            ask(reference.parse(f"{host}/x"), None)

    def test_redirects_end(self) -> None:
        with hostile(lambda it: it.say(307, {"Location": it.path})) as (host, shown):
            with pytest.raises(RegistryUnreachableError):
                ask(reference.parse(f"{host}/x"), None)
            assert len(shown) == MOST_REDIRECTS + 1

    def test_an_endless_manifest_is_not_kept(self) -> None:
        def answer(it: Hostile) -> None:
            it.say(200, {}, bytes(LONGEST_ANSWER + 1))

        with hostile(answer) as (host, _), pytest.raises(RegistryUnreachableError):
            ask(reference.parse(f"{host}/x"), None)

    @pytest.mark.parametrize(
        "challenge", ["", "Bearer", 'Bearer realm=""', "Bearer realm=", "Negotiate", 'Bearer realm="https://[x"']
    )
    def test_a_challenge_that_makes_no_sense(self, challenge: str) -> None:
        header = {"WWW-Authenticate": challenge}
        with hostile(lambda it: it.say(401, header)) as (host, _), pytest.raises(RegistryUnreachableError):
            ask(reference.parse(f"{host}/x"), WRONG)

    @pytest.mark.parametrize("end", ["cancelled", "time limit"])
    def test_an_answer_byte_by_byte_does_not_outlive_the_build(self, end: str) -> None:
        asked, released = threading.Event(), threading.Event()

        def answer(it: Hostile) -> None:
            asked.set()
            while not released.wait(0.01):
                it.wfile.write(b"x")
                it.wfile.flush()

        cancelled = threading.Event()
        deadline = time.monotonic() + (0.5 if end == "time limit" else 60)
        outcome: list[BaseException] = []

        def run(host: str) -> None:
            try:
                bases.ask_all([reference.parse(f"{host}/x")], RegistryCredentials(), print, cancelled, deadline)
            except SlipwayError as error:
                outcome.append(error)

        with hostile(answer) as (host, _):
            asking = threading.Thread(target=run, args=(host,))
            asking.start()
            try:
                assert asked.wait(10)
                if end == "cancelled":
                    cancelled.set()
                asking.join(10)
                wanted = CancelledError if end == "cancelled" else TimeLimitError
                assert [type(error) for error in outcome] == [wanted]
                for thread in threading.enumerate():
                    if thread.name.startswith("registry"):
                        thread.join(10)
                        assert not thread.is_alive(), "no thread goes on reading"
            finally:
                released.set()

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 5}', b'{"token": "a\\nb"}', b"\xff"])
    def test_a_token_that_makes_no_sense(self, body: bytes) -> None:
        def answer(it: Hostile) -> None:
            if it.path.startswith("/token"):
                it.say(200, {}, body)
            else:
                it.say(401, {"WWW-Authenticate": f'Bearer realm="http://{it.headers["Host"]}/token"'})

        with hostile(answer) as (host, _), pytest.raises(RegistryUnreachableError):
            ask(reference.parse(f"{host}/x"), WRONG)

    @pytest.mark.parametrize(
        ("status", "why"), [(429, "limits how often"), (500, "HTTP status 500"), (418, "HTTP status 418")]
    )
    def test_other_answers(self, status: int, why: str) -> None:
        with hostile(lambda it: it.say(status, {})) as (host, _), pytest.raises(RegistryUnreachableError, match=why):
            ask(reference.parse(f"{host}/x"), None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9:5000", "localhost", "localhost:5000"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.com", "128.0.0.1", "localhost.example.com:5000", "registry:5000", "docker.io"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
