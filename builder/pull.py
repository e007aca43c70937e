"""An image that is released as it is: pulled with the app's credentials, its files read without running it."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import requests
from docker.errors import DockerException, NotFound

from builder import bases, credentials, image, reference
from builder.engine import SECONDS_A_MINUTE, IsolatedClient, TimeLimitError, session
from builder.image import Image
from builder.options import DEFAULTS, Options
from store.errors import SlipwayError
from store.secret import Secret

PROCFILE = "/.aptible/Procfile"
APTIBLE_YML = "/.aptible/.aptible.yml"
LONGEST_FILE = 1 << 20
"""Bytes of one of these files. An image can hold files of any size, and these are read into memory."""


class ImageFileError(SlipwayError):
    """A file of an image that says how to run it cannot be read."""


def pull(
    reference_text: str,
    *,
    engine: str | None,
    config: Mapping[str, Secret],
    say: Callable[[str], None],
    cancelled: threading.Event,
    time_limit: float,
    options: Options = DEFAULTS,
    container_name: str | None = None,
    container_labels: Mapping[str, str] | None = None,
) -> Image:
    """Pull an image by its name, and read its Procfile and .aptible.yml.

    Arguments are as for builder.build.build. The files are read out of a container that is never started; it is called
    and labelled so that whoever calls can find it, should this process be killed before it has removed it.
    Raises SlipwayError: a class for each reason, CancelledError among them.
    """
    wanted = reference.parse(reference_text)
    registry_credentials = credentials.from_config(config, options.credential_helper)
    is_local = str(wanted) in options.local_images
    deadline = time.monotonic() + time_limit
    try:
        with session(engine, cancelled, deadline) as client:
            if is_local:
                base = bases.local(client, wanted)
                digest = base.id
            else:
                permission = bases.ask_all([wanted], registry_credentials, say, cancelled, deadline)[wanted]
                base = bases.pull(client, wanted, permission, None, say)
                digest = permission.digest
            procfile, aptible_yml = _files(client, base.id, engine, container_name, container_labels)
    except TimeLimitError:
        raise TimeLimitError(
            f"Pulling {wanted} was stopped, since it took longer than {time_limit / SECONDS_A_MINUTE:g} minutes."
        ) from None
    return image.from_inspection(
        base.inspection,
        reference=None if is_local else wanted.at(digest),
        bases={str(wanted): digest},
        procfile=procfile,
        aptible_yml=aptible_yml,
    )


def _files(
    client: IsolatedClient, image_id: str, engine: str | None, name: str | None, labels: Mapping[str, str] | None
) -> tuple[str | None, str | None]:
    # A container that is made and never started: the engine reads files only out of containers. An image without a
    # command needs some word here, which is never run.
    container = client.create_container(image_id, command=["-"], name=name, labels=dict(labels or {}))["Id"]
    try:
        return _file(client, container, PROCFILE), _file(client, container, APTIBLE_YML)
    finally:
        _remove(container, engine)


def _remove(container: str, engine: str | None) -> None:
    # In a session of its own, since the one that made the container may just have been cancelled.
    with (
        suppress(SlipwayError, DockerException, requests.RequestException),
        session(engine, threading.Event()) as client,
    ):
        client.remove_container(container, v=True, force=True)


def _file(client: IsolatedClient, container: str, path: str) -> str | None:
    try:
        pieces, _ = client.get_archive(container, path)
    except NotFound:
        return None
    try:
        with tarfile.open(fileobj=io.BytesIO(_limited(client, pieces, path))) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member and member.isreg() else None
            if content is None:
                raise ImageFileError(f"{path} in the image is not a regular file; put the file itself there")
            return content.read().decode()
    except (tarfile.TarError, UnicodeDecodeError):
        raise ImageFileError(f"{path} in the image is not UTF-8 text") from None


def _limited(client: IsolatedClient, pieces: Iterator[bytes], path: str) -> bytes:
    read = b""
    for piece in pieces:
        read += piece
        if len(read) > LONGEST_FILE:
            # The engine keeps the container from being removed for as long as somebody may read on.
            client.interrupt()
            raise ImageFileError(f"{path} in the image is larger than {LONGEST_FILE >> 10} KiB")
    return read
