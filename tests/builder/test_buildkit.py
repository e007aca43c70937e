"""What only BuildKit can do: secrets, cache mounts, stages side by side; and what it must not be talked into."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.collection import PRIVATE
from builder.dockerfile import DockerfileError
from builder.options import Choice
from builder.plan import BuildFailedError
from demo.registry import Registry
from store.errors import SlipwayError
from store.secret import Secret
from tests.builder.conftest import Log, Workbench

Account = Callable[[Registry], dict[str, str]]


@pytest.fixture
def builder() -> Choice:
    return "buildkit"


@pytest.fixture
def neighbour(workbench: Workbench, tmp_path: Path) -> Iterator[Workbench]:
    """Another app on the same engine, with a cache key of its own."""
    other = Workbench(tmp_path / "neighbour", workbench.engine)
    other.name, other.builder, other.cache_key = "neighbour", "buildkit", Secret("of another app")
    yield other
    other.close()


class TestSecrets:
    def test_a_config_variable_is_there_for_one_step_and_nowhere_else(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        config = account(registry) | {"TOKEN": "s3cret-token", "OTHER": "0ther-value"}
        log = Log()
        image = workbench.build(
            {
                "Dockerfile": f"FROM {private_small}\n"
                "RUN --mount=type=secret,id=TOKEN wc -c < /run/secrets/TOKEN > /length\n"
                "RUN --mount=type=secret,id=TOKEN,target=/t/own,mode=0444 wc -c < /t/own >> /length\n"
                "RUN --mount=type=secret,target=/elsewhere/TOKEN wc -c < /elsewhere/TOKEN >> /length\n"
                "RUN ls -A /run/secrets /t /elsewhere > /left 2>&1; true\n"
            },
            config,
            log=log,
        )
        assert workbench.run(image, "cat", "/length").split() == ["12", "12", "12"]
        client: Any = workbench.client
        seen = str(client.history(image.id)) + str(workbench.inspect(image.id)) + str(log)
        layers = b"".join(workbench.client.get_image(image.id))
        for secret in ("s3cret-token", "0ther-value", registry.password.reveal(), workbench.cache_key.reveal()):
            assert secret not in seen
            assert secret.encode() not in layers
        assert "RUN --mount=type=secret,id=TOKEN wc -c" in str(log), "the log shows what the Dockerfile says"

    def test_registry_credentials_are_no_secrets_of_a_build(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        name = "APTIBLE_PRIVATE_REGISTRY_PASSWORD"
        files = {"Dockerfile": f"FROM {private_small}\nRUN --mount=type=secret,id={name},required=true true\n"}
        with pytest.raises(BuildFailedError, match=f"line 2: .*{name}.*not found"):
            workbench.build(files, account(registry))

    def test_a_secret_that_changes_runs_its_step_again(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        text = f"FROM {private_small}\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN > /made\n"
        made = []
        for token in ("first", "second"):
            image = workbench.build({"Dockerfile": text}, account(registry) | {"TOKEN": token})
            made.append(workbench.run(image, "cat", "/made").strip())
        assert made == ["first", "second"]

    def test_another_app_does_not_get_the_layer_that_a_secret_made(
        self, workbench: Workbench, neighbour: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        """BuildKit's cache is one for all apps, and by itself it compares a secret's id only."""
        text = f"FROM {private_small}\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN > /made; true\n"
        workbench.build({"Dockerfile": text}, account(registry) | {"TOKEN": "s3cret-token"})
        for config in ({}, {"TOKEN": "mine"}):
            image = neighbour.build({"Dockerfile": text}, account(registry) | config)
            assert neighbour.run(image, "cat", "/made") == config.get("TOKEN", "")

    def test_an_id_that_is_not_certain_is_refused(self, workbench: Workbench, private_small: str) -> None:
        for fields, why in (("id=$X", "cannot have a variable"), ("mode=0400", "needs an id")):
            text = f"FROM scratch\nARG X=TOKEN\nRUN --mount=type=secret,{fields} true\n"
            with pytest.raises(DockerfileError, match=f"^Dockerfile line 3: .*{why}"):
                workbench.build({"Dockerfile": text})


def test_a_bases_trigger_mounts_nothing_of_the_apps(
    workbench: Workbench, other_registry: Registry, small_image: str, account: Account
) -> None:
    workbench.derive(small_image, "mounting:1", "ONBUILD RUN --mount=type=cache,target=/c cp -r /c /stolen")
    base = other_registry.push("slipway-test/mounting:1", "bob/mounting:1")
    with pytest.raises(DockerfileError, match=r"line 1: an ONBUILD trigger of .* has --mount=type=cache,target=/c"):
        workbench.build({"Dockerfile": f"FROM {base}\n"}, account(other_registry))


class TestCacheMounts:
    TEXT = "RUN --mount=type=cache,id=pip,target=/cache echo {word} >> /cache/words; cp /cache/words /words\n"

    def test_they_last_from_build_to_build(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        for word in ("one", "two"):
            text = f"FROM {private_small}\n" + self.TEXT.format(word=f"lasting-{word}")
            image = workbench.build({"Dockerfile": text}, account(registry))
        assert workbench.run(image, "cat", "/words").split() == ["lasting-one", "lasting-two"]

    def test_another_app_has_its_own(
        self, workbench: Workbench, neighbour: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        text = f"FROM {private_small}\n" + self.TEXT.format(word="secret-of-the-first")
        workbench.build({"Dockerfile": text}, account(registry))
        image = neighbour.build({"Dockerfile": text.replace("secret-of-the-first", "mine")}, account(registry))
        assert neighbour.run(image, "cat", "/words").split() == ["mine"]
        # Nor does the neighbour get it from the cache of steps, with the very same instruction.
        reading = f"FROM {private_small}\nRUN --mount=type=cache,id=pip,target=/cache cp -r /cache /words\n"
        workbench.build({"Dockerfile": reading}, account(registry))
        image = neighbour.build({"Dockerfile": reading}, account(registry))
        assert neighbour.run(image, "cat", "/words/words").split() == ["mine"]


@pytest.mark.parametrize(
    ("instruction", "why"),
    [
        ("RUN --mount=type=ssh true", "no SSH agent to ask here; set the key as a config variable"),
        ("RUN --mount=TYPE=SSH true", "no SSH agent"),
        ("ONBUILD RUN --mount=type=ssh true", "no SSH agent"),
        ("ONBUILD RUN --mount=type=secret,id=X true", "ONBUILD with --mount=type=secret,id=X is not supported"),
        ("ONBUILD RUN --mount=type=cache,target=/c true", "ONBUILD with --mount=type=cache"),
        ("RUN --network=host true", "reaches out of the build's own container"),
        ("RUN --security=insecure true", "reaches out of the build's own container"),
    ],
)
def test_what_is_not_to_be_had_is_refused_by_its_line(workbench: Workbench, instruction: str, why: str) -> None:
    with pytest.raises(DockerfileError, match=f"^Dockerfile line 3: .*{why}"):
        workbench.build({"Dockerfile": f"FROM scratch\n\n{instruction}\n"})


def test_a_frontend_of_somebody_elses_is_not_run(workbench: Workbench, registry: Registry) -> None:
    for syntax in (f"{registry.host}/evil/frontend", "evil/dockerfile", "sha256:" + "a" * 64):
        with pytest.raises(DockerfileError, match=r"^Dockerfile line 1: the syntax .* is not run"):
            workbench.build({"Dockerfile": f"# syntax={syntax}\nFROM scratch\n"})


def test_dockers_own_frontend_is_the_engines(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    """Nothing is pulled for a `# syntax=` line."""
    text = f"# syntax=docker/dockerfile:1.7\nFROM {private_small}\nRUN echo built > /x\n"
    assert workbench.run(workbench.build({"Dockerfile": text}, account(registry)), "cat", "/x") == "built\n"


def test_here_documents_are_read_as_the_engine_reads_them_or_refused(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    """To Docker 20.10 the lines of a here-document are instructions, which nobody would have looked at."""
    text = f"FROM {private_small}\nRUN <<EOF\necho one > /x\necho two >> /x\nEOF\nCOPY <<E /y\nFROM nothing\nE\n"
    if int(workbench.client.version()["Version"].partition(".")[0]) < 23:
        with pytest.raises(DockerfileError, match=r"line 2: here-documents .* need Docker Engine 23"):
            workbench.build({"Dockerfile": text}, account(registry))
    else:
        image = workbench.build({"Dockerfile": text}, account(registry))
        assert workbench.run(image, "cat", "/x", "/y") == "one\ntwo\nFROM nothing\n"


def test_the_log_reads_like_plain_progress(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {
        "Dockerfile": f"FROM {private_small} AS one\nRUN echo from one\nFROM {private_small}\n"
        "COPY --from=one /etc/passwd /x\nRUN echo ümlaut; \\\n  printf unfinished\n"
    }
    first, second = Log(), Log()
    workbench.build(files, account(registry), log=first)
    workbench.build(files | {"other": "so that it is not the same tree"}, account(registry), log=second)
    text = str(first)
    number = re.search(r"^#(\d+) \[stage-1 3/3\] RUN echo ümlaut; printf unfinished$", text, re.MULTILINE)
    assert number
    assert re.search(rf"^#{number[1]} \d+\.\d{{3}} ümlaut$", text, re.MULTILINE)
    assert re.search(rf"^#{number[1]} \d+\.\d{{3}} unfinished$", text, re.MULTILINE)
    assert re.search(rf"^#{number[1]} DONE \d+\.\ds$", text, re.MULTILINE)
    assert f"[one 1/2] FROM {private_small} AS one\n" in text, "the log names the base as the Dockerfile does"
    assert len(re.findall("^#[0-9]+ CACHED$", str(second), re.MULTILINE)) == 3
    assert PRIVATE not in text
    assert "internal" not in text


def test_a_step_of_a_named_stage_that_fails_has_its_line(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    text = f"FROM {private_small} AS one\nENV X=1\nWORKDIR /w\n\nRUN true && exit 7\nFROM {private_small}\n"
    text += "COPY --from=one /x /x\n"
    with pytest.raises(BuildFailedError, match=r"^Dockerfile line 5: RUN true && exit 7 ended with exit status 7.$"):
        workbench.build({"Dockerfile": text}, account(registry))


def test_a_failing_step_has_its_line_below_a_base_with_triggers(
    workbench: Workbench, other_registry: Registry, small_image: str, account: Account
) -> None:
    workbench.derive(small_image, "triggers:1", "ONBUILD RUN true", "ONBUILD RUN echo trigger")
    base = other_registry.push("slipway-test/triggers:1", "bob/triggers:1")
    with pytest.raises(BuildFailedError, match=r"^Dockerfile line 3: RUN exit 5 ended with exit status 5.$"):
        workbench.build({"Dockerfile": f"FROM {base}\nRUN true\nRUN exit 5\n"}, account(other_registry))


def test_the_names_of_a_build_are_gone_after_it(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    cancelled = threading.Event()

    class Watching(Log):
        def say(self, text: str) -> None:
            super().say(text)
            if self.printed()[-1] == "now":
                cancelled.set()

    workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry))
    with pytest.raises(SlipwayError):
        workbench.build({"Dockerfile": f"FROM {private_small}\nRUN exit 1\n"}, account(registry))
    text = f"FROM {private_small}\nRUN echo now; while true; do sleep 0.1; done\n"
    with pytest.raises(SlipwayError):
        workbench.build({"Dockerfile": text}, account(registry), log=Watching(), cancelled=cancelled)
    names = [tag for image in workbench.client.images() for tag in image["RepoTags"] or ()]
    assert not [name for name in names if name.startswith(PRIVATE)]


def test_a_neighbours_image_is_not_had_while_it_is_being_built_from(
    workbench: Workbench, neighbour: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    """While a build runs, BuildKit of Docker 20.10 gave its images to any other build that named them."""
    running, cancelled = threading.Event(), threading.Event()

    class Watching(Log):
        def say(self, text: str) -> None:
            super().say(text)
            if self.printed()[-1] == "now":
                running.set()

    def build() -> None:
        text = f"FROM {private_small}\nRUN echo now; while true; do sleep 0.1; done\n"
        with pytest.raises(SlipwayError):
            workbench.build({"Dockerfile": text}, account(registry), log=Watching(), cancelled=cancelled)

    victim = threading.Thread(target=build)
    victim.start()
    try:
        assert running.wait(60)
        names = [tag for image in workbench.client.images() for tag in image["RepoTags"] or () if PRIVATE in tag]
        assert names
        for image in (private_small, *names):
            for text in (
                f"FROM {image}\n",
                f"FROM scratch\nCOPY --from={image} /etc/passwd /\n",
                f"FROM scratch\nRUN --mount=from={image},target=/m cat /m/etc/passwd\n",
            ):
                with pytest.raises(SlipwayError):
                    neighbour.build({"Dockerfile": text})
    finally:
        cancelled.set()
        victim.join(60)


def test_a_context_with_names_that_are_not_utf_8_is_refused(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    source = workbench.commit({"Dockerfile": f"FROM {private_small}\nCOPY . /app\n"})
    (workbench.folder.absolute() / "latin-\udce9.txt").write_text("x")
    workbench.git("add", "--all")
    workbench.git("commit", "--quiet", "--message", "Name")
    source = type(source)(source.repository, workbench.git("rev-parse", "HEAD"))
    with pytest.raises(SlipwayError, match=r"BuildKit takes only names in UTF-8, and 'latin-.*' is none"):
        workbench.build(source, account(registry))


def test_a_large_file_and_many_small_ones_arrive_whole(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    large = bytes(range(256)) * (3 << 12)
    files: dict[str, str | bytes | Path] = {f"d{number % 7}/f{number}": str(number) for number in range(2000)}
    files |= {
        "Dockerfile": f"FROM {private_small}\nCOPY . /app\n",
        "large": large,
        "empty": "",
        "d1.txt": "x",
        "d1-": "",
    }
    image = workbench.build(files, account(registry))
    checked = "cd /app; cat $(ls -d d?/* | sort -t f -k 2n) | md5sum; find . -type f | wc -l; wc -c < large"
    assert workbench.run(image, "sh", "-c", checked).split()[2:] == ["2005", str(len(large))]
    assert workbench.run(image, "sh", "-c", "cat /app/d1/f1; cat /app/d6/f1994").split() == ["11994"]
