"""A second tenant tries to build with the first one's private image, which is in the engine's store already.

Every way in is one that works against the engine itself: it hands out what is in its store without asking anybody.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.dockerfile import DockerfileError
from builder.plan import BuildFailedError
from builder.registry import CredentialsMissingError, CredentialsRefusedError, RegistryError
from demo.registry import Registry
from store.errors import SlipwayError
from tests.builder.conftest import BOTH_BUILDERS, Workbench

pytestmark = BOTH_BUILDERS

Account = Callable[[Registry], dict[str, str]]


@pytest.fixture
def victim(workbench: Workbench, registry: Registry, private_small: str, account: Account) -> str:
    """The reference of a private image that tenant A has built with: it is in the engine's store now."""
    workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry))
    return private_small


@pytest.fixture
def public_base(
    workbench: Workbench, other_registry: Registry, small_image: str, account: Account
) -> tuple[str, dict[str, str]]:
    """A base that tenant B may use, and B's config."""
    return other_registry.push(small_image, "bob/base:1"), account(other_registry)


def digest_of(workbench: Workbench, reference: str) -> str:
    name = reference.rpartition(":")[0]
    digests = [
        digest
        for image in workbench.client.images()
        for digest in image["RepoDigests"] or ()
        if digest.startswith(name)
    ]
    assert digests, "tenant A's image is in the store"
    return str(digests[0])


WAYS = {
    "by its tag": "FROM {victim}\n",
    "by its digest": "FROM {digest}\n",
    "by an argument": "ARG BASE={victim}\nFROM $BASE\n",
    "by an argument's default": "FROM ${{BASE:-{digest}}}\n",
    "by a stage": "FROM {victim} AS theirs\nFROM {base}\nCOPY --from=theirs /etc/passwd /\n",
    "by COPY --from and a tag": "FROM {base}\nCOPY --from={victim} /etc/passwd /\n",
    "by COPY --from and a digest": "FROM {base}\nCOPY --from={digest} /etc/passwd /\n",
    "by lower case and a continuation": "FROM {base}\ncopy \\\n# a comment\n\n  --from={digest} /etc/passwd /\n",
    "by another escape character": "# escape=`\nFROM {base}\nCOPY `\n --from={digest} /etc/passwd /\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_another_tenants_image_is_refused(
    workbench: Workbench, victim: str, public_base: tuple[str, dict[str, str]], way: str
) -> None:
    base, config = public_base
    text = WAYS[way].format(victim=victim, digest=digest_of(workbench, victim), base=base)
    with pytest.raises(CredentialsRefusedError):
        workbench.build({"Dockerfile": text}, config)
    with pytest.raises(RegistryError):
        workbench.build({"Dockerfile": text})


@pytest.mark.parametrize("form", ["{id}", "{hex}"])
@pytest.mark.parametrize("instruction", ["FROM {image}\n", "FROM scratch\nCOPY --from={image} /etc/passwd /\n"])
def test_an_image_is_not_had_by_its_id(workbench: Workbench, victim: str, form: str, instruction: str) -> None:
    image_id = workbench.inspect(digest_of(workbench, victim))["Id"]
    image = form.format(id=image_id, hex=image_id.partition(":")[2])
    with pytest.raises(DockerfileError, match="is an image's id"):
        workbench.build({"Dockerfile": instruction.format(image=image)})


def test_a_local_tag_is_not_had_by_its_name(workbench: Workbench, small_image: str) -> None:
    with pytest.raises(SlipwayError, match=r"docker\.io"):
        workbench.build({"Dockerfile": f"FROM {small_image}\n"})


READ_DIFFERENTLY = [
    (2, "FROM {base}\nONBUILD COPY --from={digest} /etc/passwd /\n"),
    (2, "FROM {base}\nRUN --mount=from={digest},target=/m cat /m/etc/passwd\n"),
    (2, "FROM {base}\nRUN --mount=type=bind,FROM={digest},target=/m cat /m/etc/passwd\n"),
    (2, "FROM {base}\nCOPY --\\from={digest} /etc/passwd /\n"),
    (2, 'FROM {base}\nCOPY --fr"om"={digest} /etc/passwd /\n'),
    (3, "FROM {base}\nARG X={digest}\nCOPY --from=$X /etc/passwd /\n"),
    (2, "FROM {base}\nRUN <<EOF; true\nFROM {digest}\nEOF\n"),
    (2, "FROM {base}\n\vCOPY --from={digest} /etc/passwd /\n"),
    (2, "FROM {base}\n\u00a0COPY --from={digest} /etc/passwd /\n"),
    (2, "FROM {base}\n# a comment\rCOPY --from={digest} /etc/passwd /\n"),
]


@pytest.mark.parametrize(("line", "text"), READ_DIFFERENTLY)
def test_what_the_builders_might_read_differently_is_refused(
    workbench: Workbench, victim: str, public_base: tuple[str, dict[str, str]], line: int, text: str
) -> None:
    base, config = public_base
    with pytest.raises(DockerfileError, match=f"^Dockerfile line {line}: "):
        workbench.build({"Dockerfile": text.format(base=base, digest=digest_of(workbench, victim))}, config)


def test_a_quoted_option_is_a_file_name_to_the_engine_too(
    workbench: Workbench, victim: str, public_base: tuple[str, dict[str, str]]
) -> None:
    base, config = public_base
    text = f'FROM {base}\nCOPY "--from={digest_of(workbench, victim)}" /etc/passwd /\n'
    with pytest.raises(BuildFailedError, match=r"^Dockerfile line 2: COPY .* failed: .*not found"):
        workbench.build({"Dockerfile": text}, config)


def test_a_base_whose_trigger_takes_from_another_image_is_refused(
    workbench: Workbench, victim: str, other_registry: Registry, small_image: str, account: Account
) -> None:
    """Tenant B makes the base elsewhere, so that its ONBUILD was never seen here."""
    digest = digest_of(workbench, victim)
    container = workbench.client.create_container(small_image)["Id"]
    try:
        workbench.client.commit(
            container, "slipway-test/trap", "1", changes=f"ONBUILD COPY --from={digest} /etc/passwd /"
        )
    finally:
        workbench.client.remove_container(container)
    trap = other_registry.push("slipway-test/trap:1", "bob/trap:1")
    workbench.tags.append("slipway-test/trap:1")
    with pytest.raises(DockerfileError, match=f"line 1: an ONBUILD trigger of {trap} takes files from '{digest}'"):
        workbench.build({"Dockerfile": f"FROM {trap}\n"}, account(other_registry))


def test_a_base_with_honest_triggers_builds(
    workbench: Workbench, other_registry: Registry, small_image: str, account: Account
) -> None:
    container = workbench.client.create_container(small_image)["Id"]
    try:
        workbench.client.commit(
            container, "slipway-test/onbuild", "1", changes=["ONBUILD COPY . /app", "ONBUILD RUN true"]
        )
    finally:
        workbench.client.remove_container(container)
    base = other_registry.push("slipway-test/onbuild:1", "bob/onbuild:1")
    workbench.tags.append("slipway-test/onbuild:1")
    image = workbench.build({"Dockerfile": f"FROM {base}\n", "x": "mine"}, account(other_registry))
    assert workbench.run(image, "cat", "/app/x") == "mine"


def test_a_tag_that_moves_in_the_store_is_not_followed(
    workbench: Workbench, victim: str, public_base: tuple[str, dict[str, str]]
) -> None:
    """Somebody's image stands in the store under the very name that tenant B's Dockerfile uses."""
    base, config = public_base
    workbench.derive(digest_of(workbench, victim), "theirs:1", "ENV WHOSE=theirs")
    repository, _, tag = base.rpartition(":")
    workbench.client.tag("slipway-test/theirs:1", repository, tag)
    workbench.tags.append(base)
    image = workbench.build({"Dockerfile": f"FROM {base}\nRUN echo whose=$WHOSE > /whose\n"}, config)
    assert workbench.run(image, "cat", "/whose") == "whose=\n"


def test_the_server_users_own_login_is_never_used(
    workbench: Workbench, registry: Registry, private_small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home" / ".docker"
    folder.mkdir(parents=True)
    with_login = {"auths": {registry.host: {"auth": _basic(registry)}}, "HttpHeaders": {"X-Meta": "theirs"}}
    (folder / "config.json").write_text(json.dumps(with_login))
    (tmp_path / "home" / ".netrc").write_text(
        f"machine 127.0.0.1 login {registry.username} password {registry.password.reveal()}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with pytest.raises(CredentialsMissingError):
        workbench.build({"Dockerfile": f"FROM {private_small}\n"})
    with pytest.raises(CredentialsMissingError):
        workbench.pull(private_small)


def test_a_link_out_of_the_context_reads_nothing_of_the_server(
    workbench: Workbench, public_base: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the server")
    base, config = public_base
    with pytest.raises(BuildFailedError, match="COPY out /out failed"):
        workbench.build({"Dockerfile": f"FROM {base}\nCOPY out /out\n", "out": tmp_path / "secret"}, config)


def _basic(registry: Registry) -> str:
    return base64.b64encode(f"{registry.username}:{registry.password.reveal()}".encode()).decode()
