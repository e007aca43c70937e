"""A backup taken while serving brings every app back, deployed, on a machine that has nothing but the archive."""

from __future__ import annotations

import itertools
import subprocess
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import docker

from demo.person import Person
from demo.registry import Registry
from demo.server import PROGRAM, Server
from store.data_folder import DataFolder
from store.database import Store
from tests.stories.web_app import answer, answers, create, files, read, show
from tests.world.agreement import Examiner
from tests.world.background import eventually
from tests.world.working_copy import Repo


def run(server: Server, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], env=server.environment, capture_output=True, text=True, timeout=120, check=False
    )


def prune(server: Server, engine: str) -> None:
    """Remove every image that a server has built, as a machine that is new or was tidied up lacks them."""
    store = Store.open(DataFolder(server.data))
    prefix = f"slipway-{store.instance()}/"
    store.close()
    with docker.APIClient(engine) as client:
        built = [image for image in client.images() if any(tag.startswith(prefix) for tag in image["RepoTags"] or [])]
        assert built
        for image in built:
            client.remove_image(image["Id"], force=True)


def test_every_app_comes_back(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
    engine: str,
    tmp_path: Path,
) -> None:
    server = new_server()
    carol = person("carol")
    server.add_user(carol)
    create(carol, "backed-up", registry.username, registry.password.reveal())
    create(carol, "backed-up-empty")
    shop = Repo(carol, "backed-up")
    commit = shop.commit(files(private_base, "backed up"))
    assert shop.push().returncode == 0
    stored = shop.commit({"version": "stored"})
    assert shop.push("master:feature").returncode == 0
    archive = tmp_path / "slipway.tar.gz"
    taken = run(server, "backup", archive, "--data", server.data)
    assert taken.returncode == 0, taken.stderr
    assert archive.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert shop.push().returncode == 0, "what is deployed later is not in the backup"
    before = show(carol, "backed-up")
    server.down()
    prune(server, engine)
    lost = server.data.rename(tmp_path / "lost")
    restored = run(server, "restore", archive, "--data", server.data)
    assert restored.returncode == 0, restored.stderr
    assert "Restored 2 apps" in restored.stdout
    assert server.data.stat().st_mode & 0o077 == 0
    server.start()
    eventually(lambda: answers(before["url"]), "the app does not come back")
    assert answer(before["url"])["version"] == "backed up"
    # Its image had been pruned.
    eventually(lambda: read(carol, "operations", "--app", "backed-up")[0]["status"] == "succeeded", "it is not rebuilt")
    assert shop.remote_refs()["refs/heads/master"] == commit
    assert shop.remote_refs()["refs/heads/feature"] == stored
    assert shop.push().returncode == 0
    assert answer(before["url"])["version"] == "stored"
    assert run(server, "doctor", "--data", server.data).returncode == 0
    assert lost.exists()


def test_backups_taken_while_others_push_are_each_of_one_moment(
    slipway: Server, alice: Person, new_app: Callable[[Person], Repo], private_base: str, engine: str, tmp_path: Path
) -> None:
    copies = [new_app(alice) for _ in range(3)]
    over = threading.Event()

    def keep_pushing(copy: Repo) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            copy.commit(files(private_base, f"{copy.app} {number}"))
            assert copy.push("master" if number % 3 == 0 else "HEAD:refs/heads/stored").returncode == 0

    with ThreadPoolExecutor(len(copies)) as pool:
        pushing = [pool.submit(keep_pushing, copy) for copy in copies]
        try:
            for number in range(3):
                taken = run(slipway, "backup", tmp_path / f"{number}.tar.gz", "--data", slipway.data)
                assert taken.returncode == 0, taken.stderr
        finally:
            over.set()
        for each in pushing:
            each.result()
    for number in range(3):
        folder = tmp_path / f"restored-{number}"
        restored = run(slipway, "restore", tmp_path / f"{number}.tar.gz", "--data", folder)
        assert restored.returncode == 0, restored.stderr
        with closing(Examiner(folder, engine)) as examiner:
            for copy in copies:
                assert examiner.repository_disagreements(copy.app, but_unfinished=True) == []


def test_what_was_made_while_the_archive_was_written_is_not_handed_to_the_next_owner_of_its_number(
    slipway: Server, alice: Person, tmp_path: Path
) -> None:
    create(alice, "made-early")
    assert run(slipway, "backup", tmp_path / "a.tar.gz", "--data", slipway.data).returncode == 0
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        tar.extractall(tmp_path / "archive", filter="data")
    later = tmp_path / "archive" / "repositories" / "9999.git"
    later.mkdir()
    (later / "HEAD").write_text("ref: refs/heads/secret\n")
    (tmp_path / "archive" / "logs" / "9999.log").write_text("of somebody else\n")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        for path in (tmp_path / "archive").iterdir():
            tar.add(path, path.name)
    restored = run(slipway, "restore", tmp_path / "b.tar.gz", "--data", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "new" / "repositories").is_dir()
    assert list((tmp_path / "new").rglob("9999*")) == []


def test_what_is_no_backup_or_no_new_folder_is_refused(slipway: Server, alice: Person, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    assert run(slipway, "backup", archive, "--data", slipway.data).returncode == 0
    onto = run(slipway, "restore", archive, "--data", slipway.data)
    assert onto.returncode == 2
    assert "not empty" in onto.stderr
    for content in (b"", b"hello", archive.read_bytes()[:2000]):
        damaged = tmp_path / "damaged"
        damaged.write_bytes(content)
        refused = run(slipway, "restore", damaged, "--data", tmp_path / "new")
        assert refused.returncode == 1, refused.stdout
        assert "is not a backup" in refused.stderr
        assert not (tmp_path / "new").exists()
    nowhere = run(slipway, "backup", tmp_path / "none" / "b.tar.gz", "--data", slipway.data)
    assert nowhere.returncode == 1
    assert "cannot be written" in nowhere.stderr


def test_an_archive_that_reaches_out_of_its_folder_is_refused(slipway: Server, tmp_path: Path) -> None:
    archive = tmp_path / "hostile.tar.gz"
    manifest = tmp_path / "manifest"
    manifest.write_text('{"format": 1}')
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(manifest, "slipway-backup.json")
        tar.add(manifest, "../outside")
    refused = run(slipway, "restore", archive, "--data", tmp_path / "data" / "new")
    assert refused.returncode == 1
    assert not (tmp_path / "data" / "outside").exists()
    assert not (tmp_path / "outside").exists()
