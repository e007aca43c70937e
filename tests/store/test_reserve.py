"""Space that is held until a full disk needs it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from store.reserve import RESERVED_BYTES, DiskFullError, Reserve, is_full
from tests.world.small_disk import small_disk


def test_what_is_held_is_given_up_once(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")
    assert not reserve.spend(), "nothing is held yet"
    reserve.hold()
    reserve.hold()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= RESERVED_BYTES, "it takes up space, not just a length"
    assert reserve.spend()
    assert not reserve.spend()


def test_on_a_full_disk_the_reserve_makes_room_and_cannot_be_held_again(tmp_path: Path) -> None:
    with small_disk(tmp_path, RESERVED_BYTES + (1 << 20)) as disk:
        reserve = Reserve(disk / "reserve")
        reserve.hold()
        with pytest.raises(OSError, match="No space left") as full:
            (disk / "filler").write_bytes(bytes(RESERVED_BYTES + (1 << 20)))
        assert is_full(full.value)
        assert reserve.spend()
        (disk / "last words").write_bytes(bytes(RESERVED_BYTES // 2))
        with pytest.raises(DiskFullError, match="nothing new is begun"):
            reserve.hold()
        assert not (disk / "reserve").exists()
        (disk / "filler").unlink()
        reserve.hold()


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    assert is_full(OSError(errno.EDQUOT, ""))
    assert is_full(DiskFullError())
    assert not is_full(PermissionError(errno.EACCES, ""))
    assert not is_full(ValueError())
