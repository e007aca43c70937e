"""A developer pushes; the builder makes an image of the commit."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.build import NoDockerfileError
from builder.context import ContextError
from builder.credentials import HOST, PASSWORD, REGISTRY_VARIABLES, CredentialsIncompleteError
from builder.dockerfile import DockerfileError
from builder.dockerignore import DockerignoreError
from builder.engine import EngineUnreachableError, TimeLimitError
from builder.plan import BuildFailedError
from builder.registry import (
    CredentialsMissingError,
    CredentialsRefusedError,
    ImageNotFoundError,
    RegistryUnreachableError,
)
from builder.source import Source, SourceError
from demo.registry import Registry
from store.errors import CancelledError, SlipwayError
from tests.builder.conftest import BOTH_BUILDERS, Log, Workbench, comes_true

pytestmark = BOTH_BUILDERS

NAP = 7_000_000 + os.getpid()
"""Seconds that a step sleeps which is to be stopped. A number of this run's own, so that its process can be told."""

Account = Callable[[Registry], dict[str, str]]


def test_a_private_base_is_pulled_with_the_apps_credentials(
    workbench: Workbench, registry: Registry, private_small: str, account: Account
) -> None:
    log = Log()
    image = workbench.build(
        {
            "Dockerfile": f"FROM {private_small}\nCOPY . /app\nEXPOSE 8000 80\n"
            'ENTRYPOINT ["/bin/cat"]\nCMD ["/app/x"]\n',
            "Procfile": "web: cat /app/x\n",
            ".aptible.yml": "before_deploy: [true]\n",
            "x": "hello\n",
        },
        account(registry),
        log=log,
    )
    assert workbench.run(image, "cat", "/app/x") == "hello\n"
    assert (image.entrypoint, image.command) == (("/bin/cat",), ("/app/x",))
    assert image.exposed_ports == ("80/tcp", "8000/tcp")
    assert (image.procfile, image.aptible_yml) == ("web: cat /app/x\n", "before_deploy: [true]\n")
    assert image.reference is None
    assert list(image.bases) == [private_small]
    assert re.fullmatch("sha256:[0-9a-f]{64}", image.bases[private_small])
    assert f"FROM {private_small}\n" in str(log), "the log names the base as the Dockerfile does"
    assert registry.password.reveal() not in str(log)


def test_the_context_is_the_commits_tree_exactly(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    long_name = "folder/" + "n" * 120 + ".txt"
    source = workbench.commit(
        {
            "Dockerfile": f"FROM {private_small}\nCOPY . /app\n",
            "run.sh": "#!/bin/sh\n",
            "folder/plain.txt": "plain",
            long_name: "long",
            "umläut.txt": "ü",
            "link": Path("folder/plain.txt"),
        }
    )
    workbench.git("update-index", "--chmod=+x", "run.sh")
    workbench.git("commit", "--quiet", "--message", "Executable")
    source = Source(source.repository, workbench.git("rev-parse", "HEAD"))
    image = workbench.build(source, account(registry))
    listing = workbench.run(image, "sh", "-c", "cd /app; stat -c '%a %u:%g %Y %N' run.sh folder link; sort < link")
    lines = listing.splitlines()
    if workbench.builder == "buildkit":
        # Docker 20.10's BuildKit copies folders with the present time.
        lines[1] = re.sub(r" [0-9]+ '", " 946684800 '", lines[1])
    assert lines == [
        "755 0:0 946684800 'run.sh'",
        "755 0:0 946684800 'folder'",
        "777 0:0 946684800 'link' -> 'folder/plain.txt'",
        "plain",
    ]
    files = workbench.run(image, "sh", "-c", "cd /app; ls -A; cat folder/n* umläut.txt").split("\n")
    assert files == ["Dockerfile", "folder", "link", "run.sh", "umläut.txt", "longü"]


def test_dockerignore_is_honoured(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    image = workbench.build(
        {
            "Dockerfile": f"FROM {private_small}\nCOPY . /app\n",
            ".dockerignore": "**/*.log\nnode_modules\n!node_modules/keep\nDockerfile\n",
            "a/b/c.log": "",
            "a/b/c.txt": "",
            "node_modules/big": "",
            "node_modules/keep": "",
        },
        account(registry),
    )
    found = workbench.run(image, "find", "/app", "-type", "f").split()
    assert sorted(found) == ["/app/.dockerignore", "/app/a/b/c.txt", "/app/node_modules/keep"]


def test_the_same_tree_comes_from_the_cache(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\nCOPY x /x\nRUN date +%N > /time\n", "x": "same"}
    first = workbench.build(files, account(registry))
    assert workbench.build(files, account(registry)).id == first.id


def test_the_commit_is_told_where_the_dockerfile_declares_it(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    source = workbench.commit({"Dockerfile": f"FROM {private_small}\nARG GIT_COMMIT\nRUN echo $GIT_COMMIT > /commit\n"})
    assert workbench.run(workbench.build(source, account(registry)), "cat", "/commit") == f"{source.commit}\n"


def test_a_monorepo_names_its_dockerfile_and_context(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {
        "build/web.Dockerfile": f"FROM {private_small}\nCOPY . /app\n",
        "services/web/x": "web",
        "services/api/x": "api",
        "Procfile": "web: true\n",
    }
    places = {"SLIPWAY_DOCKERFILE": "build/web.Dockerfile", "SLIPWAY_BUILD_CONTEXT": "services/web"}
    image = workbench.build(files, account(registry) | places)
    assert workbench.run(image, "sh", "-c", "ls -A /app; cat /app/x") == "x\nweb"
    assert image.procfile == "web: true\n"


@pytest.mark.parametrize("path", ["../..", "/etc", "services/../../x"])
def test_a_context_outside_the_repository_is_refused(workbench: Workbench, path: str) -> None:
    with pytest.raises(SourceError, match="SLIPWAY_BUILD_CONTEXT has to be a path inside the repository"):
        workbench.build({"Dockerfile": "FROM scratch\n"}, {"SLIPWAY_BUILD_CONTEXT": path})


def test_config_is_in_the_context_only_where_it_is_named(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    config = account(registry) | {"GREETING": "it's $HOME\nand more", "TOKEN": "s3cret-token"}
    log = Log()
    named = workbench.build(
        {"Dockerfile": f'FROM {private_small}\nCOPY .aptible.env /\nRUN . /.aptible.env; echo "$GREETING" > /said\n'},
        config,
        log=log,
    )
    assert workbench.run(named, "cat", "/said") == "it's $HOME\nand more\n"
    written = workbench.run(named, "cat", "/.aptible.env")
    assert not any(variable in written for variable in REGISTRY_VARIABLES)
    assert registry.password.reveal() not in written
    assert "RUN --mount=type=secret,id=KEY" in str(log)
    assert "s3cret-token" not in str(log)
    unnamed = workbench.build({"Dockerfile": f"FROM {private_small}\nCOPY . /app\n", "x": ""}, config)
    assert workbench.run(unnamed, "ls", "-A", "/app") == "Dockerfile\nx\n"


def test_no_secret_is_in_history_or_layers(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    config = account(registry) | {"TOKEN": "s3cret-token"}
    image = workbench.build(
        {"Dockerfile": f"FROM {private_small}\nARG GIT_COMMIT\nCOPY . /app\nRUN env > /env\n"}, config
    )
    client: Any = workbench.client
    seen = str(client.history(image.id)) + str(workbench.inspect(image.id))
    layers = b"".join(workbench.client.get_image(image.id))
    for secret in (registry.password.reveal(), "s3cret-token"):
        assert secret not in seen
        assert secret.encode() not in layers


def test_a_line_is_there_while_its_step_still_runs(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    first_line, cancelled = threading.Event(), threading.Event()

    class Watching(Log):
        def say(self, text: str) -> None:
            super().say(text)
            if self.printed()[-1] == "first":
                first_line.set()

    outcome: list[BaseException] = []

    def run() -> None:
        files = {"Dockerfile": f"FROM {private_small}\nRUN echo first; while true; do sleep 0.1; done\n"}
        try:
            workbench.build(files, account(registry), log=Watching(), cancelled=cancelled)
        except CancelledError as error:
            outcome.append(error)

    builder = threading.Thread(target=run)
    builder.start()
    assert first_line.wait(60)
    cancelled.set()
    builder.join(60)
    assert len(outcome) == 1


def test_a_platform_can_be_named(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    machine = workbench.client.version()["Arch"]
    for platform in (f"linux/{machine}", "$BUILDPLATFORM"):
        image = workbench.build(
            {"Dockerfile": f"FROM --platform={platform} {private_small} AS a\nFROM a\nRUN echo {platform} > /x\n"},
            account(registry),
        )
        assert workbench.inspect(image.id)["Architecture"] == machine


def test_stages_and_other_images_are_copied_from(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    image = workbench.build(
        {
            "Dockerfile": f"""ARG BASE={private_small}
FROM $BASE AS Make
RUN echo made > /made
FROM $BASE
COPY --from=make /made /from-name
COPY --from=0 /made /from-number
COPY --from={private_small} /etc/passwd /from-image
"""
        },
        account(registry),
    )
    assert workbench.run(image, "cat", "/from-name", "/from-number") == "made\nmade\n"
    assert "root" in workbench.run(image, "cat", "/from-image")
    assert list(image.bases) == [private_small]


def test_tenants_build_at_the_same_time_each_with_its_own_credentials(
    workbench: Workbench,
    registry: Registry,
    other_registry: Registry,
    private_small: str,
    small_image: str,
    account: Account,
    tmp_path: Path,
) -> None:
    """Four builds at once, on two registries that know different accounts."""
    bases = [(private_small, registry), (other_registry.push(small_image, "bob/small:1"), other_registry)] * 2
    outcome: dict[int, str] = {}

    def run(number: int, base: str, owner: Registry) -> None:
        bench = Workbench(tmp_path / f"tenant-{number}", workbench.engine)
        bench.name = f"tenant-{number}"
        try:
            image = bench.build({"Dockerfile": f"FROM {base}\nRUN echo {number} > /number\n"}, account(owner))
            outcome[number] = bench.run(image, "cat", "/number")
        finally:
            bench.close()

    threads = [threading.Thread(target=run, args=(number, *each)) for number, each in enumerate(bases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == {number: f"{number}\n" for number in range(4)}


def test_standard_error_and_progress_bars_are_plain_lines(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    log = Log()
    workbench.build(
        {"Dockerfile": f"FROM {private_small}\nRUN echo warning >&2; printf '10%%\\r100%%\\n'; printf unfinished\n"},
        account(registry),
        log=log,
    )
    assert {"warning", "100%", "unfinished"} <= set(log.printed())
    assert "\x1b" not in str(log)


class TestCancelling:
    def test_it_stops_the_process_and_leaves_nothing(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry))
        images, containers = workbench.images(), workbench.containers()
        running, cancelled = threading.Event(), threading.Event()

        class Watching(Log):
            def say(self, text: str) -> None:
                if "now sleeping" in text and "RUN" not in text:
                    running.set()

        outcome: list[BaseException] = []

        def run() -> None:
            files = {"Dockerfile": f"FROM {private_small}\nRUN date > /d\nRUN echo now sleeping; sleep {NAP}\n"}
            try:
                workbench.build(files, account(registry), log=Watching(), cancelled=cancelled)
            except BaseException as error:
                outcome.append(error)

        builder = threading.Thread(target=run)
        builder.start()
        try:
            assert running.wait(60)
            # The step has said so just before.
            assert comes_true(lambda: f"sleep\x00{NAP}" in _command_lines())
        finally:
            cancelled.set()
            builder.join(10)
        assert [type(error) for error in outcome] == [CancelledError]
        assert comes_true(lambda: f"sleep\x00{NAP}" not in _command_lines() and workbench.containers() == containers)
        assert workbench.images() == images

    def test_before_it_starts_nothing_is_started(self, workbench: Workbench, private_small: str) -> None:
        cancelled = threading.Event()
        cancelled.set()
        log = Log()
        with pytest.raises(CancelledError):
            workbench.build({"Dockerfile": f"FROM {private_small}\n"}, log=log, cancelled=cancelled)
        assert str(log) == ""


def test_a_build_that_takes_too_long_is_stopped(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    with pytest.raises(TimeLimitError, match=r"since it took longer than 0\.05 minutes"):
        workbench.build({"Dockerfile": f"FROM {private_small}\nRUN sleep {NAP}\n"}, account(registry), time_limit=3)
    assert comes_true(lambda: f"sleep\x00{NAP}" not in _command_lines())


class TestBadInput:
    def test_no_dockerfile(self, workbench: Workbench) -> None:
        with pytest.raises(NoDockerfileError, match="There is no Dockerfile at the root of the repository in commit"):
            workbench.build({"README": ""})

    def test_a_dockerfile_that_does_not_parse(self, workbench: Workbench) -> None:
        with pytest.raises(DockerfileError, match="Dockerfile line 3: 'COPPY' is no Dockerfile instruction"):
            workbench.build({"Dockerfile": "FROM scratch\n\nCOPPY a b\n"})

    def test_what_only_the_engine_finds_has_its_line(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        with pytest.raises(BuildFailedError, match=r"line 4: COPY gone /x failed: .*gone"):
            workbench.build({"Dockerfile": f"FROM {private_small}\n\n# why\nCOPY gone /x\n"}, account(registry))
        # BuildKit of Docker 20.10 knows no line of what it finds before the first step.
        with pytest.raises(SlipwayError, match=r"line 3|^The engine could not build the Dockerfile: Invalid container"):
            workbench.build({"Dockerfile": f"FROM {private_small}\n\nEXPOSE many\n"}, account(registry))
        with pytest.raises(DockerfileError, match=r"^Dockerfile line 3: [Uu]nknown flag: wrong"):
            workbench.build({"Dockerfile": f"FROM {private_small}\n\nCOPY --wrong=x a b\n"}, account(registry))

    def test_a_step_that_fails(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        log = Log()
        with pytest.raises(
            BuildFailedError, match=r"^Dockerfile line 2: RUN echo broken; exit 3 ended with exit status 3\.$"
        ):
            workbench.build(
                {"Dockerfile": f"FROM {private_small}\nRUN echo broken; \\\n  exit 3\n"}, account(registry), log=log
            )
        assert "broken\n" in str(log)

    def test_what_failing_builds_have_finished_is_kept_once_and_under_a_name(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        def nameless() -> list[str]:
            return sorted(image["Id"] for image in workbench.client.images(filters={"dangling": True}))

        def layers() -> list[str]:
            names = [name for image in workbench.client.images() for name in image["RepoTags"] or ()]
            return [name for name in names if name.startswith(f"slipway-test/{workbench.name}:layers-")]

        before = nameless()
        steps = ""
        for number in range(3):
            steps = f"FROM {private_small}\nRUN echo {number} > /first\nRUN echo second > /second\n"
            with pytest.raises(BuildFailedError):
                workbench.build({"Dockerfile": f"{steps}RUN false\n"}, account(registry))
        assert nameless() == before
        assert len(layers()) <= 1, "BuildKit keeps its cache elsewhere"
        workbench.build({"Dockerfile": steps}, account(registry))
        assert nameless() == before
        assert layers() == []

    def test_a_dockerignore_that_cannot_be_read(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        with pytest.raises(DockerignoreError, match=r"^\.dockerignore line 2: the pattern '\[' has an unfinished"):
            workbench.build(
                {"Dockerfile": f"FROM {private_small}\nCOPY . /\n", ".dockerignore": "a\n[\n"}, account(registry)
            )

    def test_missing_credentials(self, workbench: Workbench, registry: Registry, private_small: str) -> None:
        with pytest.raises(CredentialsMissingError) as caught:
            workbench.build({"Dockerfile": f"FROM {private_small}\n"})
        for word in (registry.host, private_small, PASSWORD, "config:set", "--private-registry-password"):
            assert word in str(caught.value)

    def test_wrong_credentials(
        self, workbench: Workbench, registry: Registry, private_small: str, account: Account
    ) -> None:
        with pytest.raises(CredentialsRefusedError) as caught:
            workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry) | {PASSWORD: "expired-1"})
        for word in (registry.host, private_small, PASSWORD, "expired", "config:set"):
            assert word in str(caught.value)
        assert "expired-1" not in str(caught.value)

    def test_an_emptied_password_is_missing(
        self, workbench: Workbench, registry: Registry, private_small: str, account: Account
    ) -> None:
        with pytest.raises(CredentialsIncompleteError, match=f"{PASSWORD} is not; set both"):
            workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry) | {PASSWORD: ""})

    def test_credentials_of_another_host_are_not_shown(
        self, workbench: Workbench, registry: Registry, other_registry: Registry, private_small: str, account: Account
    ) -> None:
        with pytest.raises(CredentialsMissingError):
            workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry) | {HOST: other_registry.host})

    def test_an_image_that_does_not_exist(self, workbench: Workbench, registry: Registry, account: Account) -> None:
        with pytest.raises(ImageNotFoundError, match=f"{registry.host} has no image {registry.host}/nothing:9"):
            workbench.build({"Dockerfile": f"FROM {registry.host}/nothing:9\n"}, account(registry))

    def test_a_registry_that_is_down(self, workbench: Workbench, free_port: Callable[[], int]) -> None:
        host = f"127.0.0.1:{free_port()}"
        with pytest.raises(
            RegistryUnreachableError, match=f"The registry {host} could not be asked for {host}/x:latest"
        ):
            workbench.build({"Dockerfile": f"FROM {host}/x\n"})

    def test_an_engine_that_is_down(self, workbench: Workbench, tmp_path: Path) -> None:
        with pytest.raises(EngineUnreachableError, match=f"engine at unix://{tmp_path}/no.sock does not answer. Check"):
            workbench.build({"Dockerfile": "FROM scratch\n"}, engine=f"unix://{tmp_path}/no.sock")

    def test_a_commit_that_is_not_there(self, workbench: Workbench) -> None:
        source = workbench.commit({"Dockerfile": "FROM scratch\n"})
        with pytest.raises(SourceError, match="There is no commit 0123456789"):
            workbench.build(Source(source.repository, "0123456789" * 4))

    def test_a_context_folder_that_is_not_there(self, workbench: Workbench) -> None:
        with pytest.raises(SourceError, match="There is no folder web in commit"):
            workbench.build(
                {"Dockerfile": "FROM scratch\n"}, {"SLIPWAY_BUILD_CONTEXT": "web", "SLIPWAY_DOCKERFILE": "Dockerfile"}
            )


def test_a_submodule_is_refused_by_its_path_or_left_out(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    def with_submodule(files: dict[str, str]) -> Source:
        workbench.commit({"Dockerfile": f"FROM {private_small}\nCOPY . /app\n"} | files)
        workbench.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
        workbench.git("commit", "--quiet", "--message", "Submodule")
        return Source(workbench.folder / ".git", workbench.git("rev-parse", "HEAD"))

    with pytest.raises(ContextError, match=r"^vendor/lib is a submodule, and .* set SLIPWAY_GIT_CREDENTIALS to https:"):
        workbench.build(with_submodule({}), account(registry))
    image = workbench.build(with_submodule({".dockerignore": "vendor/lib\n"}), account(registry))
    assert "vendor/lib" not in workbench.run(image, "find", "/app")


def test_a_file_in_git_lfs_is_refused_by_its_path_or_left_out(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"
    files = {"Dockerfile": f"FROM {private_small}\nCOPY . /app\n", "art/big.bin": pointer}
    with pytest.raises(ContextError, match=r"^art/big\.bin is in Git LFS, and a push does not carry its content; take"):
        workbench.build(files, account(registry))
    image = workbench.build(files | {".dockerignore": "art\n"}, account(registry))
    assert "big.bin" not in workbench.run(image, "find", "/app")


def _command_lines() -> str:
    return subprocess.run(
        ["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true"], capture_output=True, text=True, check=True
    ).stdout
