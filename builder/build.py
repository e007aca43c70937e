"""A commit becomes an image.

Read the Dockerfile, ask the registries, pull, hand the commit's tree to the builder: in this order, so that nothing has
been sent or started when a build turns out not to be allowed.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from builder import bases, context, credentials, disk, dockerfile, image, inputs, metrics, stages, submodules
from builder.bases import Base
from builder.buildkit.secrets import SecretMounts
from builder.choice import choose
from builder.context import Context
from builder.credentials import REGISTRY_VARIABLES
from builder.dockerfile import Dockerfile
from builder.engine import SECONDS_A_MINUTE, EngineUnreachableError, IsolatedClient, TimeLimitError, session
from builder.image import Image
from builder.limits import Output, OutputLimitError
from builder.options import DEFAULTS, Options
from builder.output import NO_SPACE
from builder.plan import Builder, BuildFailedError, Plan, StepFailedError
from builder.reference import Reference
from builder.registry import Permission
from builder.source import CommitTree, Source, SourceError
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
    options: Options = DEFAULTS,
    rebuild: bool = False,
) -> Image:
    """Build the image of a commit.

    `engine` is an address as in DOCKER_HOST, None for the environment's. `config` is the app's whole config. `say`
    gets whole lines as they come, ends included. Setting `cancelled` stops the build at any point, `time_limit` is in
    seconds. `cache_key` is the app's own and never changes: caches of different apps are kept apart by it. `rebuild`
    runs every step; else an image that was made from the very same inputs is returned without a build.

    Raises SlipwayError: a class of its own for each reason, CancelledError among them. Nothing of an interrupted build
    is left in the engine.
    """
    deadline = time.monotonic() + time_limit
    registry_credentials = credentials.from_config(config, options.credential_helper)
    made: list[str] = []
    with submodules.opened(source, config, say, cancelled, deadline) as tree:
        folder = _path(config, BUILD_CONTEXT, ".")
        path = _path(config, DOCKERFILE, posixpath.normpath(f"{folder}/Dockerfile"))
        file = _read_dockerfile(tree, path)
        context_id = tree.folder(folder)
        procfile, aptible_yml = _text(tree, PROCFILE), _text(tree, APTIBLE_YML)
        layout = stages.read(file, source.commit)
        arguments = {GIT_COMMIT: source.commit} if file.declares(GIT_COMMIT) else {}
        extra = {context.CONFIG_FILE: context.config_file(config)} if file.names_config_file else {}
        for_secrets = {key: value for key, value in config.items() if key not in REGISTRY_VARIABLES}
        builder: Builder | None = None
        try:
            with session(engine, cancelled, deadline) as client:
                builder = choose(options, client)
                builder.check(file)
                references = [use.reference for use in layout.uses.values()]
                asked = [each for each in references if str(each) not in options.local_images]
                permissions = bases.ask_all(asked, registry_credentials, say, cancelled, deadline)
                local = {each: bases.local(client, each) for each in references if each not in permissions}
                digests = {
                    each: permissions[each].digest if each in permissions else local[each].id for each in references
                }
                name = inputs.tag_of(
                    inputs.fingerprint(
                        builder=type(builder).__name__,
                        dockerfile=tree.file(path) or b"",
                        context=context_id,
                        bases={use: digests[use.reference] for use in layout.uses.values()},
                        arguments=arguments,
                        labels=labels,
                        extra=extra,
                        secrets=SecretMounts(file, for_secrets, cache_key),
                        cache_key=cache_key,
                    ),
                    tag,
                )
                made.append(tag)
                inspection = None if rebuild else client.find_image(name)
                if inspection:
                    metrics.REUSED.inc()
                    say("Nothing that the image is made from has changed; it is used again without a build\n")
                    client.name_image(inspection["Id"], tag)
                else:
                    if extra:
                        say(_CONFIG_FILE_WARNING)
                    plan = Plan(
                        dockerfile=file,
                        stages=layout,
                        bases=_pull_all(client, layout, permissions, local, say),
                        context=Context(tree, folder, extra),
                        arguments=arguments,
                        config=for_secrets,
                        cache_key=cache_key,
                        tag=tag,
                        labels=labels,
                        rebuild=rebuild,
                    )
                    inspection = client.image(_run(builder, client, plan, Output(say)))
                    metrics.BUILT.inc()
                    made.append(name)
                    client.name_image(inspection["Id"], name)
        except (CancelledError, TimeLimitError, OutputLimitError) as error:
            if builder:
                _discard(builder, engine, made)
            if isinstance(error, TimeLimitError):
                minutes = f"{time_limit / SECONDS_A_MINUTE:g}"
                raise TimeLimitError(f"The build was stopped, since it took longer than {minutes} minutes.") from None
            raise
    return image.from_inspection(
        inspection,
        reference=None,
        bases={str(reference): digest for reference, digest in digests.items()},
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
    client: IsolatedClient,
    layout: Stages,
    permissions: Mapping[Reference, Permission],
    local: Mapping[Reference, Base],
    say: Callable[[str], None],
) -> dict[ImageUse, Base]:
    found: dict[ImageUse, Base] = {}
    for use in layout.uses.values():
        found[use] = local.get(use.reference) or bases.pull(
            client, use.reference, permissions[use.reference], use.platform, say
        )
        if use.stages is not None:
            for trigger in (found[use].inspection.get("Config") or {}).get("OnBuild") or ():
                stages.check_trigger(trigger, use)
    return found


def _run(builder: Builder, client: IsolatedClient, plan: Plan, output: Output) -> str:
    try:
        return builder.build(client, plan, output)
    except BuildFailedError as error:
        # A program says it in its output and ends with a status of its own; the engine says it in the error.
        if NO_SPACE in str(error).lower() or (output.no_space and isinstance(error, StepFailedError)):
            raise disk.full(client, str(error).rstrip(".") + ". The build") from None
        raise


def _discard(builder: Builder, engine: str | None, names: Iterable[str]) -> None:
    try:
        with session(engine, threading.Event()) as client:
            builder.discard(client)
            client.forget(names)
    except EngineUnreachableError:
        # The operation has ended for its own reason; what is left in an engine that is gone is its own affair.
        return
