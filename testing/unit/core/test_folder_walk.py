"""The one walk over folders: its order, links, what is no file, what may not be read, and how deep it goes."""

from __future__ import annotations

import inspect
import os
import socket
import sys
from pathlib import Path

from testing.support.user_rights import as_nobody, open_folder

from vision_mlops.core.files import is_clutter
from vision_mlops.core.folder_walk import EntryKind, walk


def kinds(folder: Path) -> dict[str, str]:
    return {entry.name: entry.kind.value for entry in walk(folder, is_clutter)}


def test_the_order_is_that_of_the_parts_of_names(tmp_path: Path) -> None:
    for name in ("b/z", "b/a/1", "B/1", "a.x/1", "a/1", "ä/1", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [entry.name for entry in walk(tmp_path) if entry.kind is EntryKind.FILE]
    assert files == ["B/1", "a/1", "a.x/1", "b/a/1", "b/z", "c", "ä/1"]


def test_links_are_followed_unless_they_lead_back_or_nowhere(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "1").touch()
    (folder / "sub").mkdir(parents=True)
    (folder / "linked").symlink_to(outside)
    (folder / "file").symlink_to(outside / "deep" / "1")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "nothing").symlink_to(tmp_path / "nowhere")
    (folder / "self").symlink_to("self")
    assert kinds(folder) == {
        "file": "file", "linked": "folder", "linked/deep": "folder", "linked/deep/1": "file", "nothing": "broken_link",
        "self": "broken_link", "sub": "folder", "sub/up": "loop",
    }  # fmt: skip


def test_pipes_and_sockets_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket may have a hundred letters only
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(here)
        assert kinds(tmp_path) == dict.fromkeys(("device.jpg", "pipe.jpg", "socket.jpg"), "special")


def test_what_may_not_be_read_is_an_entry() -> None:
    with open_folder() as folder, as_nobody():
        for name in ("closed", "list only", "open"):
            (folder / name).mkdir()
            (folder / name / "1.jpg").touch()
        (folder / "closed").chmod(0o000)
        (folder / "list only").chmod(0o400)
        try:
            entries = {entry.name: (entry.kind.value, entry.problem) for entry in walk(folder)}
            (folder / "whole").mkdir(mode=0o000)
            (refused,) = walk(folder / "whole")
        finally:
            for path in folder.iterdir():
                path.chmod(0o700)
    assert entries == {
        "closed": ("unreadable", "cannot be read (Permission denied)"), "list only": ("folder", ""),
        "list only/1.jpg": ("file", ""), "open": ("folder", ""), "open/1.jpg": ("file", ""),
    }  # fmt: skip
    assert (refused.name, refused.kind) == ("", EntryKind.UNREADABLE)


def test_a_path_longer_than_the_system_takes_is_an_entry(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    finally:
        os.chdir(here)
    *folders, last = walk(tmp_path)
    assert {entry.kind for entry in folders} == {EntryKind.FOLDER}
    assert (last.kind, last.problem) == (EntryKind.UNREADABLE, "cannot be read (File name too long)")


def test_folders_in_folders_deeper_than_calls_nest(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"d" * 200)
    deep.mkdir(parents=True)
    (deep / "1").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert [entry.name.count("/") for entry in walk(tmp_path)][-1] == 200
    finally:
        sys.setrecursionlimit(limit)


def test_names_of_clutter_in_any_case() -> None:
    for name in (
        "a/._1.jpg",
        "__MACOSX/x",
        "THUMBS.DB",
        "Desktop.ini",
        "x/@eaDir/1.jpg",
        ".ipynb_checkpoints/a",
        ".DS_Store",
    ):
        assert is_clutter(name), name
    for name in ("a/1.jpg", "_1.jpg", "thumbs.jpg", "my __MACOSX/1.jpg"):
        assert not is_clutter(name), name
