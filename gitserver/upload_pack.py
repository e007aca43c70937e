"""Clone, fetch and ls-remote: git-upload-pack(1), with the server's own refs hidden."""

from __future__ import annotations

import threading

from dulwich.errors import GitProtocolError, HangupException
from dulwich.protocol import ReceivableProtocol
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, UploadPackHandler

from gitserver import git_program
from gitserver.streams import ClientGoneError, ClientStreams
from gitserver.visible_refs import VisibleRefs
from hooks.engine_room import Repository
from store.errors import SlipwayError


class FetchError(SlipwayError):
    """A client broke off a fetch by something that is not Git's protocol."""


def serve(streams: ClientStreams, repository: Repository, git_protocol: str | None) -> int:
    """Serve one fetch and return its exit status.

    `git_protocol` is the client's GIT_PROTOCOL, by which it asks for protocol version 2 (gitprotocol-v2(5)). Raises
    ClientGoneError.
    """
    if git_program.installed():
        return _with_git(streams, repository, git_protocol)
    return _with_dulwich(streams, repository)


def _with_git(streams: ClientStreams, repository: Repository, git_protocol: str | None) -> int:
    env = git_program.environment({"GIT_PROTOCOL": git_protocol} if git_protocol else None)
    with git_program.running(git_program.upload_pack(repository.path), env, streams) as child:
        child.feed(streams)
        errors = threading.Thread(target=_copy_errors, args=(child, streams), daemon=True)
        errors.start()
        # The program answers at once, so when it is silent it waits for the client.
        with streams.awaiting_input():
            for data in child.output():
                streams.write(data)
        errors.join()
        status = child.wait()
    if streams.gone:
        raise ClientGoneError
    return status if status >= 0 else 1


def _copy_errors(child: git_program.Child, streams: ClientStreams) -> None:
    try:
        for data in child.errors():
            streams.write_error(data)
    except ClientGoneError:
        child.kill()


def _with_dulwich(streams: ClientStreams, repository: Repository) -> int:
    with Repo(str(repository.path)) as repo:
        # The stock handler offers whatever refs it is given, so the hidden ones must not be among them.
        repo.refs = VisibleRefs(repository.path)
        served: dict[str, BackendRepo] = {"/": repo}
        protocol = ReceivableProtocol(streams.read, streams.write)
        try:
            UploadPackHandler(DictBackend(served), ["/"], protocol).handle()
        except HangupException:
            raise ClientGoneError from None
        except GitProtocolError as error:
            raise FetchError(f"the fetch ended, since it is not Git's protocol: {error}") from error
    return 0
