"""Which credentials a registry is shown: stored ones, several, fetched ones; and what is said when they are no use."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from builder import credential_helper, docker_auth_config, ecr
from builder.credentials import HOST, PASSWORD, REGISTRY_VARIABLES, USERNAME, RegistryCredentials, from_config
from builder.login import Credentials, CredentialsError
from builder.options import Options
from builder.registry import CredentialsMissingError, CredentialsRefusedError
from demo.registry import Registry
from store.errors import SlipwayError
from store.secret import Secret
from tests.builder.conftest import Log, Workbench
from tests.builder.token_registry import TokenRegistry

ECR_HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
KEYS = {"ECR_AWS_ACCESS_KEY_ID": "AKIA-for-ecr", "ECR_AWS_SECRET_ACCESS_KEY": "ecr-secret-key"}


def of(config: dict[str, str], helper: str | None = None) -> RegistryCredentials:
    return from_config({name: Secret(value) for name, value in config.items()}, helper)


def shown(found: Credentials | None) -> str | None:
    return f"{found.username.reveal()}:{found.password.reveal()}" if found else None


def auths(**logins: str) -> str:
    entries = {host: {"auth": base64.b64encode(login.encode()).decode()} for host, login in logins.items()}
    return json.dumps({"auths": entries})


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """AWS as moto plays it; the SDK's own environment variables lead to it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, tuple[str, str]]], str]:
    """Install a credential helper that knows these logins, and return its name."""

    def install(logins: dict[str, tuple[str, str]]) -> str:
        known = {host: {"ServerURL": host, "Username": name, "Secret": word} for host, (name, word) in logins.items()}
        (tmp_path / "logins.json").write_text(json.dumps(known))
        program = tmp_path / "docker-credential-vault"
        program.write_text(
            "#!/usr/bin/python3\nimport json, sys\n"
            f"known = json.load(open({str(tmp_path / 'logins.json')!r})).get(sys.stdin.read())\n"
            "print(json.dumps(known) if known else 'credentials not found in native keychain')\n"
            "sys.exit(not known or sys.argv[1:] != ['get'])\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return "vault"

    return install


class TestDockerAuthConfig:
    def test_each_host_gets_its_own(self) -> None:
        value = json.dumps(
            {
                "auths": {
                    "https://index.docker.io/v1/": {"auth": base64.b64encode(b"hub:a:b").decode()},
                    "Registry.Example.com:5000": {"username": "u", "password": "p"},
                    "empty.example.com": {},
                },
                "HttpHeaders": {"X-Meta": "ignored"},
            }
        )
        found = of({"DOCKER_AUTH_CONFIG": value})
        assert shown(found.for_host("docker.io")) == "hub:a:b"
        assert shown(found.for_host("registry.example.com:5000")) == "u:p"
        assert found.for_host("registry.example.com") is None
        assert found.for_host("empty.example.com") is None

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ("{", "is not JSON"),
            ("[]", 'has no "auths"'),
            ('{"auths": {"h.example": {"auth": "not base64 s3cret"}}}', "h.example in .* is not the base64"),
            ('{"auths": {"h.example": {"identitytoken": "s3cret"}}}', "identity tokens are not supported"),
            ('{"auths": {"h.example": "s3cret"}}', "has neither"),
        ],
    )
    def test_what_is_wrong_is_said_without_a_secret(self, value: str, why: str) -> None:
        with pytest.raises(CredentialsError, match=why) as caught:
            of({"DOCKER_AUTH_CONFIG": value})
        assert "s3cret" not in str(caught.value)

    @given(st.text())
    def test_whatever_it_is_it_is_read_or_refused(self, value: str) -> None:
        try:
            docker_auth_config.parse(Secret(value))
        except docker_auth_config.AuthConfigError:
            return

    def test_two_registries_in_one_build(
        self, workbench: Workbench, registry: Registry, other_registry: Registry, private_small: str, small_image: str
    ) -> None:
        second = other_registry.push(small_image, "bob/small:1")
        logins = auths(
            **{each.host: f"{each.username}:{each.password.reveal()}" for each in (registry, other_registry)}
        )
        text = f"FROM {private_small}\nCOPY --from={second} /etc/passwd /x\n"
        image = workbench.build({"Dockerfile": text}, {"DOCKER_AUTH_CONFIG": logins})
        assert set(image.bases) == {private_small, second}
        with pytest.raises(CredentialsRefusedError, match="the user in DOCKER_AUTH_CONFIG for 127"):
            workbench.build({"Dockerfile": text}, {"DOCKER_AUTH_CONFIG": auths(**{registry.host: "nobody:wrong"})})


class TestTheMostSpecificWins:
    CONFIG: ClassVar = {USERNAME: "u", PASSWORD: "everywhere", "DOCKER_AUTH_CONFIG": auths(**{"b.example": "u:of-b"})}

    def test_of_stored_ones(self) -> None:
        found = of(self.CONFIG)
        assert shown(found.for_host("a.example")) == "u:everywhere"
        assert shown(found.for_host("b.example")) == "u:of-b"
        named = of(self.CONFIG | {HOST: "https://b.example/v2/"})
        assert shown(named.for_host("b.example")) == "u:everywhere"
        assert named.for_host("a.example") is None

    def test_of_the_apps_and_the_servers(self, helper: Callable[[dict[str, tuple[str, str]]], str]) -> None:
        name = helper({"a.example": ("h", "of-helper"), "https://index.docker.io/v1/": ("h", "hub")})
        assert shown(of({}, name).for_host("a.example")) == "h:of-helper"
        assert shown(of({}, name).for_host("docker.io")) == "h:hub"
        assert of({}, name).for_host("c.example") is None
        assert shown(of(self.CONFIG, name).for_host("a.example")) == "u:everywhere"

    def test_ecr_keys_before_what_is_for_everywhere(self, aws: str) -> None:
        found = of(self.CONFIG | KEYS)
        assert (shown(found.for_host(ECR_HOST)) or "").startswith("AWS:")
        assert shown(found.for_host("a.example")) == "u:everywhere"


class TestEcr:
    def test_hosts(self) -> None:
        assert ecr.region(ECR_HOST) == "eu-central-1"
        assert ecr.region("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com") == "us-gov-west-1"
        assert ecr.region("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn") == "cn-north-1"
        for other in ("public.ecr.aws", "123456789012.dkr.ecr.x.amazonaws.com.evil.example", "dkr.ecr.x.amazonaws.com"):
            assert ecr.region(other) is None

    def test_a_fresh_token_for_keys_of_its_own(self, aws: str) -> None:
        token = of(KEYS).for_host(ECR_HOST)
        assert token
        assert token.username.reveal() == "AWS"
        assert token.password.reveal().endswith("-auth-token")

    def test_the_apps_own_keys_do_as_well(self, aws: str) -> None:
        own = {name.removeprefix("ECR_"): value for name, value in KEYS.items()} | {"AWS_SESSION_TOKEN": "session"}
        assert (shown(of(own).for_host(ECR_HOST)) or "").startswith("AWS:")

    def test_a_role_is_assumed(self, aws: str) -> None:
        iam = boto3.client(
            "iam", region_name="us-east-1", aws_access_key_id="admin", aws_secret_access_key="x", endpoint_url=aws
        )
        role = iam.create_role(RoleName="puller", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        assert (shown(of(KEYS | {"ECR_AWS_ROLE_ARN": role}).for_host(ECR_HOST)) or "").startswith("AWS:")
        with pytest.raises(ecr.EcrError):
            of(KEYS | {"ECR_AWS_ROLE_ARN": "no role"}).for_host(ECR_HOST)

    def test_aws_out_of_reach(self, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(ecr.EcrError, match=r"^Amazon ECR in eu-central-1 could not be asked for a token"):
            of(KEYS).for_host(ECR_HOST)
        own = {name.removeprefix("ECR_"): value for name, value in KEYS.items()}
        assert shown(of(own | {USERNAME: "u", PASSWORD: "p"}).for_host(ECR_HOST)) == "u:p"

    def test_the_server_users_own_aws_is_not_used(
        self, aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "config").write_text("[profile other]\nregion = us-west-1\n")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "missing")
        assert of({}).for_host(ECR_HOST) is None
        assert of(KEYS).for_host(ECR_HOST)

    def test_half_a_pair_is_told(self) -> None:
        with pytest.raises(ecr.EcrError, match="only one is set"):
            of({"ECR_AWS_ACCESS_KEY_ID": "x"})


class TestHelper:
    def test_a_build_with_the_servers_login(
        self,
        workbench: Workbench,
        registry: Registry,
        private_small: str,
        helper: Callable[[dict[str, tuple[str, str]]], str],
    ) -> None:
        name = helper({registry.host: (registry.username, registry.password.reveal())})
        with pytest.raises(CredentialsMissingError):
            workbench.build({"Dockerfile": f"FROM {private_small}\n"})
        workbench.options = Options(credential_helper=name)
        assert workbench.build({"Dockerfile": f"FROM {private_small}\n"}).bases
        assert workbench.pull(private_small).reference

    def test_one_that_is_missing_or_broken_is_told(
        self, helper: Callable[[dict[str, tuple[str, str]]], str], tmp_path: Path
    ) -> None:
        with pytest.raises(CredentialsError, match=r"docker-credential-absent gave no login for a.example"):
            credential_helper.get("absent", "a.example")
        name = helper({"a.example": ("<token>", "s3cret")})
        with pytest.raises(CredentialsError, match="identity token"):
            credential_helper.get(name, "a.example")
        (tmp_path / "docker-credential-vault").write_text("#!/bin/sh\necho s3cret\n")
        with pytest.raises(CredentialsError) as caught:
            credential_helper.get(name, "a.example")
        assert "s3cret" not in str(caught.value)


class TestExpired:
    def test_tokens_that_say_so_themselves(self) -> None:
        past, future = 1_700_000_000, int(datetime.now(UTC).timestamp()) + 3600

        def web(claims: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

        def expired(password: str) -> bool:
            return Credentials(Secret("AWS"), Secret(password)).expired_at is not None

        for password, moment in (
            (base64.b64encode(json.dumps({"payload": "x", "expiration": past}).encode()).decode(), past),
            (f"{web({'alg': 'none'})}.{web({'exp': past})}.sig", past),
        ):
            found = Credentials(Secret("AWS"), Secret(password)).expired_at
            assert found == datetime.fromtimestamp(moment, UTC)
        assert not expired(base64.b64encode(json.dumps({"expiration": future}).encode()).decode())
        assert not expired(f"x.{web({'exp': future})}.y")
        assert not expired("a.b.c")
        assert not expired("hunter2")

    @given(st.text())
    def test_any_password_is_looked_at_without_harm(self, password: str) -> None:
        assert Credentials(Secret("u"), Secret(password)).expired_at is None

    def test_the_message_says_when(self, workbench: Workbench, token_registry: TokenRegistry, small_image: str) -> None:
        private = token_registry.push(small_image, "team/app:1")
        password = base64.b64encode(b'{"payload": "x", "expiration": 1700000000}').decode()
        with pytest.raises(CredentialsRefusedError) as caught:
            workbench.build({"Dockerfile": f"FROM {private}\n"}, {USERNAME: "AWS", PASSWORD: password})
        assert f"the password in {PASSWORD} expired at 2023-11-14 22:13 UTC" in str(caught.value)
        assert "deploy --private-registry-username" in str(caught.value)
        assert password not in str(caught.value)


class TestLocalImages:
    def test_one_that_the_administrator_names_is_free(self, workbench: Workbench, small_image: str) -> None:
        full = f"docker.io/{small_image}"
        with pytest.raises(SlipwayError):
            workbench.build({"Dockerfile": f"FROM {small_image}\n"})
        workbench.options = Options(local_images=frozenset({full}))
        image = workbench.build({"Dockerfile": f"FROM {small_image}\nRUN echo built > /x\n"})
        assert workbench.run(image, "cat", "/x") == "built\n"
        assert image.bases == {full: workbench.inspect(small_image)["Id"]}
        assert workbench.pull(small_image).reference is None

    def test_one_that_is_not_there_is_told(self, workbench: Workbench) -> None:
        workbench.options = Options(local_images=frozenset({"docker.io/library/absent:1"}))
        with pytest.raises(SlipwayError, match="absent:1 is among SLIPWAY_LOCAL_IMAGES, and the engine has no such"):
            workbench.build({"Dockerfile": "FROM absent:1\n"})


def test_no_registry_variable_reaches_a_build(workbench: Workbench, private_small: str, registry: Registry) -> None:
    config = {name: f"value-of-{name}" for name in REGISTRY_VARIABLES}
    config["DOCKER_AUTH_CONFIG"] = auths(**{registry.host: f"{registry.username}:{registry.password.reveal()}"})
    config[HOST] = "elsewhere.example"
    log = Log()
    files = {"Dockerfile": f"FROM {private_small}\nCOPY .aptible.env /env\nRUN env >> /env\n"}
    written = workbench.run(workbench.build(files, config | {"GREETING": "hello"}, log=log), "cat", "/env")
    assert "GREETING=hello" in written
    assert not [name for name in REGISTRY_VARIABLES if name in written + str(log)]
