"""Writing whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testing.support.user_rights import as_nobody, open_folder

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.files import atomic_folder, atomic_write, remove_path


def test_a_failed_body_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")

    def fail() -> None:
        with atomic_folder(target, overwrite=True) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_existing_folder_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
    with pytest.raises(MlopsError, match="exists already"), atomic_folder(tmp_path / "out"):
        pass


def test_of_a_link_the_folder_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "link", overwrite=True) as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_atomic_write_replaces_and_cleans_up(tmp_path: Path) -> None:
    atomic_write(tmp_path / "deep" / "file", "one")
    atomic_write(tmp_path / "deep" / "file", b"two")
    assert (tmp_path / "deep" / "file").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_what_was_made_read_only_is_removed_all_the_same() -> None:
    with open_folder() as folder, as_nobody():
        (folder / "a" / "b" / "c").mkdir(parents=True)
        (folder / "a" / "b" / "c" / "x").write_text("x")
        (folder / "a" / "link").symlink_to(folder / "kept", target_is_directory=True)
        (folder / "kept").mkdir()
        for path in (folder / "a" / "b" / "c", folder / "a" / "b", folder / "a"):
            path.chmod(0o500)
        (folder / "a").chmod(0)
        remove_path(folder / "a")
        remove_path(folder / "nothing")
        assert [path.name for path in folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", "x")
        atomic_write(tmp_path / "file", "replaced")
        atomic_write(tmp_path / "shown", "x", mode=0o644)
        with atomic_folder(tmp_path / "folder") as folder:
            atomic_write(folder / "inside", "x")
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    file, folder_mode = 0o666 & ~umask, 0o777 & ~umask
    assert modes == {"file": file, "shown": 0o644, "folder": folder_mode, "folder/inside": file}
