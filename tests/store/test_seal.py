from pathlib import Path

import pytest

from store.seal import Seal, SealError


def test_what_was_sealed_opens_in_its_own_place_only(tmp_path: Path) -> None:
    seal = Seal.create(tmp_path / "key")
    sealed = seal.close(b"hunter2", "config 1 of app 1")
    assert b"hunter2" not in sealed
    assert seal.open(sealed, "config 1 of app 1") == b"hunter2"
    with pytest.raises(SealError):
        seal.open(sealed, "config 1 of app 2")


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    seal = Seal.create(tmp_path / "key")
    sealed = seal.close(b"hunter2", "here")
    for position in range(len(sealed)):
        damaged = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealError):
            seal.open(damaged, "here")


def test_the_key_file_is_its_owners_alone_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"
    sealed = Seal.create(path).close(b"x", "here")
    assert path.stat().st_mode & 0o777 == 0o600
    assert Seal.create(path).open(sealed, "here") == b"x"
    path.chmod(0o640)
    with pytest.raises(SealError, match="chmod 600"):
        Seal.load(path)


def test_another_key_does_not_open(tmp_path: Path) -> None:
    sealed = Seal.create(tmp_path / "one").close(b"x", "here")
    with pytest.raises(SealError, match="put back the key file"):
        Seal.create(tmp_path / "two").open(sealed, "here")


def test_a_damaged_key_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(SealError, match="damaged"):
        Seal.load(path)
