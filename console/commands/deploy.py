"""`deploy`: a commit that was pushed, or a ready image, together with config, as one atomic change."""

from __future__ import annotations

import click

from builder.credentials import PASSWORD, USERNAME
from console.commands.apps_scale import LARGEST_MB, MAX_CONTAINERS, SMALLEST_MB
from console.grammar import Call, command, of_app
from hooks.request import Request
from store import config, releases
from store.errors import UsageError
from store.operations import Operation
from store.secret import Secret

IMAGE = "APTIBLE_DOCKER_IMAGE"
"""What clients of Aptible's name the image by: a setting, and with older ones a config variable."""

FROM_INPUT = "-"
"""In place of a value: it comes on standard input."""


@command("deploy")
@of_app
@click.option("--git-commitish", metavar="COMMITISH", help="Deploy this branch, tag or commit, pushed before.")
@click.option("--docker-image", metavar="IMAGE", help="Deploy this image as it is: NAME[:TAG|@DIGEST].")
@click.option("--private-registry-username", metavar="USER", help="Log in to the image's registry as this user; kept.")
@click.option(
    "--private-registry-password", metavar="PASSWORD", help="The password for it; kept. - reads it from standard input."
)
@click.option("--git-detach", is_flag=True, help="Needed once to go from deploying with git to deploying an image.")
@click.option(
    "--container-count",
    type=click.IntRange(0, MAX_CONTAINERS),
    metavar="N",
    help="Containers of each service that is new with this deploy.",
)
@click.option(
    "--container-size",
    type=click.IntRange(SMALLEST_MB, LARGEST_MB),
    metavar="MB",
    help="Memory of each of their containers.",
)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE …]")
def deploy(
    call: Call,
    handle: str,
    environment: str | None,
    git_commitish: str | None,
    docker_image: str | None,
    private_registry_username: str | None,
    private_registry_password: str | None,
    git_detach: bool,
    container_count: int | None,
    container_size: int | None,
    pairs: tuple[str, ...],
) -> Operation:
    """Deploy code or an image, with the config that goes with it, as one change: all of it happens or nothing.

    Without a commit and without an image, an app that runs an image has it pulled again.
    """
    changes = dict(config.parse_pairs(pairs))
    if IMAGE in changes:
        docker_image = docker_image or changes[IMAGE].reveal()
        del changes[IMAGE]
    if private_registry_username is not None:
        changes[USERNAME] = Secret(private_registry_username)
    if private_registry_password == FROM_INPUT:
        changes[PASSWORD] = Secret(call.read_input().rstrip("\r\n"))
    elif private_registry_password is not None:
        changes[PASSWORD] = Secret(private_registry_password)
    config.check(changes)
    if git_commitish and (docker_image or git_detach):
        raise UsageError("--git-commitish deploys code and --docker-image an image; choose one of them")
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        current = releases.current(connection, app)
    if docker_image and not git_detach and current and current.artifact.commit:
        raise UsageError(
            f"{handle} is deployed with git; add --git-detach to replace that by the image "
            "(a later git push switches back)"
        )
    if not git_commitish and not docker_image and (current is None or current.artifact.image_name is None):
        raise UsageError("name what to deploy: --git-commitish COMMITISH or --docker-image IMAGE")
    commit = call.room.pipeline.repository(app.id).resolve(git_commitish) if git_commitish else None
    wanted = {"container_count": container_count, "container_memory_mb": container_size}
    first = {name: value for name, value in wanted.items() if value is not None}
    request = Request("deploy", changes, commit=commit, image=docker_image, settings=first)
    return call.room.operations.open(app, call.user_id, request)
