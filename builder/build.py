"""A commit becomes an image.

Read the Dockerfile, ask the registries, pull, hand the commit's tree to the builder: in this order, so that nothing has
been sent or started when a build turns out not to be allowed.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Callable, Mapping

from builder import bases, context, credentials, dockerfile, image, stages
from builder.choice import Choice, choose
from builder.context import Context
from builder.credentials import REGISTRY_VARIABLES
from builder.dockerfile import Dockerfile
from builder.engine import EngineUnreachableError, IsolatedClient, TimeLimitError, session
from builder.image import Image
from builder.plan import Builder, Plan
from builder.reference import Reference
from builder.registry import Permission
from builder.source import CommitTree, Source, SourceError, open_tree
from builder.stages import GIT_COMMIT, ImageUse, Stages
from store.errors import CancelledError
from store.secret import Secret

__all__ = ["BUILD_CONTEXT", "DOCKERFILE", "Source", "build"]

DOCKERFILE = "SLIPWAY_DOCKERFILE"
"""Config variable: the Dockerfile's path from the root of the repository. Default: `Dockerfile` in the context."""
BUILD_CONTEXT = "SLIPWAY_BUILD_CONTEXT"
"""Config variable: the folder that is the build context, from the root of the repository, which is the default."""
PROCFILE = "Procfile"
APTIBLE_YML = ".aptible.yml"
SECONDS_A_MINUTE = 60


class NoDockerfileError(SourceError):
    """The commit has no Dockerfile where it is looked for."""


def build(
    source: Source,
    *,
    engine: str | None,
    config: Mapping[str, Secret],
    tag: str,
    labels: Mapping[str, str],
    say: Callable[[str], None],
    cancelled: threading.Event,
    time_limit: float,
    cache_key: Secret,
    choice: Choice = "auto",
    rebuild: bool = False,
) -> Image:
    """Build the image of a commit.

    `engine` is an address as in DOCKER_HOST, None for the environment's. `config` is the app's whole config. `say`
    gets whole lines as they come, ends included. Setting `cancelled` stops the build at any point, `time_limit` is in
    seconds. `cache_key` is the app's own and never changes: caches of different apps are kept apart by it. `rebuild`
    runs every step, whatever is cached.

    Raises SlipwayError: a class of its own for each reason, CancelledError among them. Nothing of an interrupted build
    is left in the engine.
    """
    deadline = time.monotonic() + time_limit
    registry_credentials = credentials.from_config(config)
    with open_tree(source) as tree:
        folder = _path(config, BUILD_CONTEXT, ".")
        file = _read_dockerfile(tree, _path(config, DOCKERFILE, posixpath.normpath(f"{folder}/Dockerfile")))
        tree.folder(folder)
        procfile, aptible_yml = _text(tree, PROCFILE), _text(tree, APTIBLE_YML)
        layout = stages.read(file, source.commit)
        builder: Builder | None = None
        try:
            with session(engine, cancelled, deadline) as client:
                builder = choose(choice, client)
                builder.check(file)
                references = [use.reference for use in layout.uses.values()]
                permissions = bases.ask_all(references, registry_credentials, say, cancelled)
                found = _pull_all(client, layout, permissions, say)
                extra = {}
                if file.names_config_file:
                    say(_CONFIG_FILE_WARNING)
                    extra[context.CONFIG_FILE] = context.config_file(config)
                plan = Plan(
                    dockerfile=file,
                    stages=layout,
                    bases=found,
                    context=Context(tree, folder, extra, say),
                    arguments={GIT_COMMIT: source.commit} if file.declares(GIT_COMMIT) else {},
                    config={key: value for key, value in config.items() if key not in REGISTRY_VARIABLES},
                    cache_key=cache_key,
                    tag=tag,
                    labels=labels,
                    rebuild=rebuild,
                )
                inspection = client.image(builder.build(client, plan, say))
        except (CancelledError, TimeLimitError) as error:
            if builder:
                _discard(builder, engine)
            if isinstance(error, TimeLimitError):
                minutes = f"{time_limit / SECONDS_A_MINUTE:g}"
                raise TimeLimitError(f"The build was stopped, since it took longer than {minutes} minutes.") from None
            raise
    return image.from_inspection(
        inspection,
        reference=None,
        bases={str(reference): permission.digest for reference, permission in permissions.items()},
        procfile=procfile,
        aptible_yml=aptible_yml,
    )


_CONFIG_FILE_WARNING = (
    f"Warning: the Dockerfile names {context.CONFIG_FILE}, so the app's config becomes part of an image layer; "
    "RUN --mount=type=secret,id=KEY keeps it out, where the builder is BuildKit\n"
)


def _read_dockerfile(tree: CommitTree, path: str) -> Dockerfile:
    content = tree.file(path)
    if content is None:
        where = "at the root of the repository" if path == "Dockerfile" else f"at {path}"
        raise NoDockerfileError(
            f"There is no Dockerfile {where} in commit {tree.commit[:12]}; add one, or name its path with {DOCKERFILE}"
        )
    return dockerfile.parse(content)


def _path(config: Mapping[str, Secret], variable: str, default: str) -> str:
    """Return a path inside the repository. Raises SourceError for one that leads out of it."""
    value = config.get(variable)
    path = posixpath.normpath(value.reveal()) if value else default
    if path.startswith(("/", "../")) or path == ".." or "\0" in path:
        raise SourceError(f"{variable} has to be a path inside the repository, such as services/web")
    return path


def _text(tree: CommitTree, path: str) -> str | None:
    content = tree.file(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        raise SourceError(f"{path} in commit {tree.commit[:12]} is not UTF-8 text") from None


def _pull_all(
    client: IsolatedClient, layout: Stages, permissions: Mapping[Reference, Permission], say: Callable[[str], None]
) -> dict[ImageUse, bases.Base]:
    found: dict[ImageUse, bases.Base] = {}
    for use in layout.uses.values():
        found[use] = bases.pull(client, use.reference, permissions[use.reference], use.platform, say)
        if use.stages is not None:
            for trigger in (found[use].inspection.get("Config") or {}).get("OnBuild") or ():
                stages.check_trigger(trigger, use)
    return found


def _discard(builder: Builder, engine: str | None) -> None:
    try:
        with session(engine, threading.Event()) as client:
            builder.discard(client)
    except EngineUnreachableError:
        # The operation has ended for its own reason; what is left in an engine that is gone is its own affair.
        return
