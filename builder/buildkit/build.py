"""One build by BuildKit: the plan, the session and the progress put together."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import requests
from docker.errors import APIError, DockerException

from builder import reference, stages
from builder.buildkit import cgroups, session
from builder.buildkit.files import METHOD as FILES
from builder.buildkit.files import FileSync
from builder.buildkit.progress import TRACE, Progress, Steps, renamed
from builder.buildkit.secrets import SecretMounts
from builder.collection import PRIVATE
from builder.context import DOCKERFILE
from builder.dockerfile import Dockerfile, DockerfileError, Instruction, mount_fields
from builder.engine import IsolatedClient
from builder.limits import KILLED, Limits
from builder.output import one_line
from builder.plan import BuildFailedError, Plan, StepFailedError, quoted
from builder.stages import ImageUse

CACHE_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"
"""The build argument that keeps RUN --mount=type=cache of different apps apart (Dockerfile reference)."""
HEREDOC_API = (1, 42)
"""The engine's interface version from Docker 23 on, whose own Dockerfile frontend reads here-documents."""

_OFFICIAL = re.compile(r"docker/dockerfile(?:-upstream)?")
_PARSE_ERROR = re.compile(r"dockerfile parse error (?:on )?line ([0-9]+): (.*)", re.IGNORECASE)
_WRAPPING = re.compile(
    r"(?:(?:rpc error: code = [A-Za-z]+ desc|failed to solve(?: with frontend [a-z0-9.]+)?|"
    r"failed to (?:create LLB definition|compute cache key)|failed to process \"[^\"]*\")(?: =|:) )+"
)
"""What BuildKit's layers add to an error on its way, and tells its author nothing."""
_EXIT_STATUS = re.compile(r"exit code: ([0-9]+)\Z")


class BuildKitBuilder:
    """One run of BuildKit (see builder.plan.Builder)."""

    def __init__(self, api_version: tuple[int, ...], limits: Limits) -> None:
        self._api_version = api_version
        self._limits = limits
        self._finished: Plan | None = None

    def check(self, file: Dockerfile) -> None:
        """Refuse what this engine's frontend would read otherwise, or what is not to be had here."""
        if file.syntax and not _is_official(file.syntax):
            raise DockerfileError(
                1, f"the syntax {one_line(file.syntax)} is not run; only docker/dockerfile is read here"
            )
        for instruction in file.instructions:
            if instruction.heredoc and self._api_version < HEREDOC_API:
                raise DockerfileError(
                    instruction.line, "here-documents (<<) need Docker Engine 23 or newer; use a RUN with && instead"
                )
            for flag in (instruction.trigger or instruction).flags:
                _check_flag(flag, instruction.line)

    def build(self, client: IsolatedClient, plan: Plan, say: Callable[[str], None]) -> str:
        """Build and tag an image; see builder.plan.Builder."""
        if self._limits == Limits() or not cgroups.enforceable(client.address):
            return self._build(client, plan, say)
        watch = cgroups.Watch(self._limits, _mark(plan), client.interrupt)
        with watch.running():
            try:
                return self._build(client, plan, say)
            except Exception as error:
                if watch.stopped:
                    raise self._limits.memory_error("The Dockerfile's build") from None
                if self._limits.memory is None or not isinstance(error, StepFailedError):
                    raise
                if watch.out_of_memory or error.status == KILLED:
                    raise self._limits.memory_error(error.where) from None
                raise

    def _build(self, client: IsolatedClient, plan: Plan, say: Callable[[str], None]) -> str:
        mounts = SecretMounts(plan.dockerfile, plan.config, plan.cache_key)
        with _named(client, plan) as names:
            text = stages.pinned(plan.dockerfile, plan.stages, lambda use: names[use], mounts.flags)
            known = {name: str(use.reference) for use, name in names.items()} | mounts.names
            files = FileSync(plan.context, text)
            handlers = {
                session.HEALTH: session.health(),
                session.SECRETS: session.secret_store(mounts.by_id),
                FILES: files.handler(),
            }
            steps = Steps(plan)
            with session.attached(client, handlers) as identity:
                progress = Progress(steps, say)
                try:
                    image, error = _follow(client.post_build(_parameters(plan, identity)), progress)
                except APIError as refused:
                    raise BuildFailedError(
                        f"The engine could not build the Dockerfile: {one_line(str(refused.explanation))}."
                    ) from None
                finally:
                    progress.close()
            if files.error:
                raise files.error
            if error is not None:
                raise _failure(steps, progress, renamed(error, known))
        if not image:
            raise BuildFailedError("The engine ended the build without an image and without an error; try again.")
        self._finished = plan
        return image

    def discard(self, client: IsolatedClient) -> None:
        """Remove this run's image; steps that it had finished are BuildKit's cache, which BuildKit collects."""
        with suppress(DockerException, requests.RequestException):
            if self._finished:
                client.remove_image(self._finished.tag)


def _is_official(syntax: str) -> bool:
    try:
        named = reference.parse(syntax)
    except reference.MalformedReferenceError:
        return False
    return named.host == reference.DOCKER_HUB and bool(_OFFICIAL.fullmatch(named.repository))


def _check_flag(flag: str, line: int) -> None:
    fields = mount_fields(flag)
    if fields and fields.get("type", "").lower() == "ssh":
        raise DockerfileError(
            line,
            "RUN --mount=type=ssh has no SSH agent to ask here; set the key as a config variable and use "
            "RUN --mount=type=secret,id=NAME",
        )
    if flag == "--network=host" or flag.startswith(("--security=insecure", "--device")):
        raise DockerfileError(line, f"{flag} reaches out of the build's own container, and is not allowed here")


@contextmanager
def _named(client: IsolatedClient, plan: Plan) -> Iterator[Mapping[ImageUse, str]]:
    """Give the base images names of this build's own for its time.

    BuildKit finds an image in the engine's store by its name only, and hands out what is there without asking. Nobody
    else knows these names, or can move them.
    """
    repository, token = plan.tag.rpartition(":")[0], secrets.token_hex(16)
    names = {use: f"{PRIVATE}/{repository}/{token}:{number}" for number, use in enumerate(plan.bases)}
    try:
        for use, name in names.items():
            client.name_image(plan.bases[use].id, name)
        yield names
    finally:
        client.forget(names.values())


def _mark(plan: Plan) -> str:
    """Return what tells this app's steps from all others; it has one build at a time."""
    return hmac.digest(plan.cache_key.reveal().encode(), b"steps of this app", "sha256").hex()[:32] + ".invalid"


def _parameters(plan: Plan, session_id: str) -> dict[str, str]:
    """Return the query of `POST /build` (Docker Engine API, "Build an image")."""
    namespace = hmac.digest(plan.cache_key.reveal().encode(), b"cache mounts", "sha256").hex()
    return {
        "version": "2",
        "session": session_id,
        "remote": "client-session",
        "dockerfile": DOCKERFILE,
        "t": plan.tag,
        "labels": json.dumps(dict(plan.labels)),
        "buildargs": json.dumps({**plan.arguments, CACHE_NAMESPACE: namespace, cgroups.VARIABLE: _mark(plan)}),
        "rm": "1",
        "forcerm": "1",
        **({"nocache": "1"} if plan.rebuild else {}),
    }


def _follow(messages: Iterator[Mapping[str, Any]], progress: Progress) -> tuple[str, str | None]:
    """Return the id of the image that was built, or what went wrong."""
    image = ""
    for message in messages:
        if error := message.get("error"):
            return "", str(error)
        aux = message.get("aux")
        if message.get("id") == TRACE and isinstance(aux, str):
            progress.trace(aux)
        elif isinstance(aux, Mapping):
            image = str(aux.get("ID", image))
    return image, None


def _failure(steps: Steps, progress: Progress, message: str) -> BuildFailedError | DockerfileError:
    said = _WRAPPING.sub("", one_line(message))
    if syntax := _PARSE_ERROR.search(said):
        return DockerfileError(int(syntax[1]), syntax[2])
    failed: Instruction | None = steps.find(progress.failed.name) if progress.failed else None
    if failed is None:
        return BuildFailedError(f"The engine could not build the Dockerfile: {said}.")
    where = f"Dockerfile line {failed.line}: {quoted(failed)}"
    if status := _EXIT_STATUS.search(said):
        return StepFailedError(where, int(status[1]))
    return BuildFailedError(f"{where} failed: {said}.")
