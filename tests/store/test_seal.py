import base64
import os
from pathlib import Path

import pytest

from store import secret_key
from store.data_folder import DataFolder
from store.seal import Seal, SealError
from store.secret import Secret


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def test_what_was_sealed_opens_in_its_own_place_only() -> None:
    seal = Seal([os.urandom(32)])
    sealed = seal.close(b"hunter2", "config 1 of app 1")
    assert b"hunter2" not in sealed
    assert seal.open(sealed, "config 1 of app 1") == b"hunter2"
    with pytest.raises(SealError):
        seal.open(sealed, "config 1 of app 2")


def test_every_changed_byte_is_noticed() -> None:
    seal = Seal([os.urandom(32)])
    sealed = seal.close(b"hunter2", "here")
    for position in range(len(sealed)):
        damaged = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealError):
            seal.open(damaged, "here")


def test_the_key_file_is_its_owners_alone_and_is_kept(folder: DataFolder) -> None:
    made = secret_key.create(folder)
    assert folder.config_key.stat().st_mode & 0o777 == 0o600
    assert secret_key.create(folder) == secret_key.load(folder) == made
    assert [path.name for path in folder.root.iterdir()] == ["config.key"]
    folder.config_key.chmod(0o640)
    with pytest.raises(SealError, match="chmod 600"):
        secret_key.load(folder)


def test_another_key_does_not_open() -> None:
    sealed = Seal([os.urandom(32)]).close(b"x", "here")
    with pytest.raises(SealError, match="put back the key"):
        Seal([os.urandom(32)]).open(sealed, "here")


def test_a_damaged_key_is_said_to_be_one(folder: DataFolder) -> None:
    folder.config_key.write_text("short")
    folder.config_key.chmod(0o600)
    with pytest.raises(SealError, match="damaged"):
        secret_key.load(folder)
    with pytest.raises(SealError, match=r"SLIPWAY_SECRET_KEY cannot be used.*openssl rand") as caught:
        secret_key.load(DataFolder(folder.root, Secret("hunter2hunter2")))
    assert "hunter2" not in str(caught.value)


def test_while_a_key_is_replaced_each_of_the_two_leads_to_both(folder: DataFolder) -> None:
    former, new = os.urandom(32), os.urandom(32)

    def given(key: bytes) -> DataFolder:
        return DataFolder(folder.root, Secret(base64.b64encode(key).decode()))

    secret_key.begin(folder, former, new)
    assert folder.next_config_key.stat().st_mode & 0o777 == 0o600
    assert secret_key.load(given(former)) == secret_key.load(given(new)) == [new, former]
    with pytest.raises(SealError, match="neither the former key nor the new one"):
        secret_key.load(given(os.urandom(32)))
    secret_key.complete(given(new), new)
    assert secret_key.load(given(new)) == [new]
    assert not list(folder.root.iterdir())
