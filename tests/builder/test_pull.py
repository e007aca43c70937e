"""An image is deployed as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from builder.engine import EngineUnreachableError
from builder.pull import ImageFileError, pull
from builder.reference import MalformedReferenceError
from builder.registry import CredentialsMissingError, CredentialsRefusedError, ImageNotFoundError
from demo.registry import Registry
from store.errors import CancelledError
from tests.builder.conftest import Log, Workbench

Account = Callable[[Registry], dict[str, str]]


def test_it_is_pulled_with_the_apps_credentials_and_its_files_are_read(
    workbench: Workbench, registry: Registry, private_small: str, account: Account
) -> None:
    made = workbench.build(
        {
            "Dockerfile": f'FROM {private_small}\nCOPY . /.aptible\nEXPOSE 9000\nCMD ["web"]\n',
            "Procfile": "web: serve\n",
            ".aptible.yml": "before_deploy: []\n",
        },
        account(registry),
    )
    reference = registry.push(made.id, "team/direct:1")
    containers = workbench.containers()
    log = Log()
    image = workbench.pull(reference, account(registry), log=log)
    assert (image.procfile, image.aptible_yml) == ("web: serve\n", "before_deploy: []\n")
    assert (image.command, image.exposed_ports) == (("web",), ("9000/tcp",))
    assert image.reference == f"{reference.rpartition(':')[0]}@{image.bases[reference]}"
    assert workbench.inspect(image.reference)["Id"] == image.id
    assert workbench.containers() == containers, "the container that files were read from is gone"
    assert registry.password.reveal() not in str(log)


def test_an_image_without_these_files_and_without_a_command(
    workbench: Workbench, registry: Registry, account: Account
) -> None:
    made = workbench.build({"Dockerfile": "FROM scratch\nCOPY x /\n", "x": ""})
    image = workbench.pull(registry.push(made.id, "team/empty:1"), account(registry))
    assert (image.procfile, image.aptible_yml, image.command, image.entrypoint) == (None, None, (), ())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RUN mkdir -p /.aptible/Procfile", "not a regular file"),
        ("RUN mkdir /.aptible; ln -s /etc/passwd /.aptible/Procfile", "not a regular file"),
        ("RUN mkdir /.aptible; head -c 2000000 /dev/zero > /.aptible/Procfile", "larger than 1024 KiB"),
        ("RUN mkdir /.aptible; printf '\\377' > /.aptible/Procfile", "not UTF-8"),
    ],
)
def test_a_procfile_that_is_none(
    workbench: Workbench, registry: Registry, private_small: str, account: Account, line: str, why: str
) -> None:
    made = workbench.build({"Dockerfile": f"FROM {private_small}\n{line}\n"}, account(registry))
    reference = registry.push(made.id, "team/odd:1")
    containers = workbench.containers()
    with pytest.raises(ImageFileError, match=f"/.aptible/Procfile in the image is {why}"):
        workbench.pull(reference, account(registry))
    assert workbench.containers() == containers


def test_an_image_that_another_tenant_pulled_is_refused(
    workbench: Workbench, registry: Registry, other_registry: Registry, private_small: str, account: Account
) -> None:
    image = workbench.pull(private_small, account(registry))
    assert image.reference
    for reference in (private_small, image.reference):
        with pytest.raises(CredentialsMissingError):
            workbench.pull(reference)
        with pytest.raises(CredentialsRefusedError):
            workbench.pull(reference, account(other_registry))


def test_bad_input_is_a_sentence(workbench: Workbench, registry: Registry, account: Account) -> None:
    with pytest.raises(MalformedReferenceError, match="'Not An Image' is no image reference"):
        workbench.pull("Not An Image")
    with pytest.raises(ImageNotFoundError, match="team/gone:latest; check its name and tag"):
        workbench.pull(f"{registry.host}/team/gone", account(registry))
    with pytest.raises(EngineUnreachableError):
        pull("x", engine="unix:///nowhere/sock", config={}, say=print, cancelled=threading.Event(), time_limit=60)


def test_cancelled_before_it_starts(engine: str, private_small: str) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        pull(private_small, engine=engine, config={}, say=print, cancelled=cancelled, time_limit=60)
