"""The benchmark of uploads on a handful of files: every whole command uploads them, and the page keeps its other part."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from benchmarks import transfer, whole_uploads
from testing.support.blob_containers import Container, many, write

FEW = argparse.Namespace(files=12, size=500, rounds=1, delay=0.0)


@pytest.mark.slow
def test_whole_commands_upload_the_same_files_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    rows = transfer.measure_whole(FEW)
    assert set(rows) == set(whole_uploads.UPLOADS)
    assert all(row["again"] > 0 and row["seconds"] > 0 for measured in rows.values() for row in measured)
    table = transfer.whole_table(rows).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == list(whole_uploads.UPLOADS)
    assert table[2].split("|")[3].strip() == table[2].split("|")[5].strip() == "1.00"
    assert [line.split("|")[6].strip() for line in table[2:]] == ["yes", "yes", "yes", "no"]


def test_a_command_that_does_not_upload_everything_is_no_result(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", many(3, 10))

    def nothing(folder: Path, container: Container) -> list[str]:
        return ["true"]

    monkeypatch.setitem(whole_uploads.UPLOADS, "nothing", whole_uploads.Upload(nothing))
    with pytest.raises(SystemExit, match="nothing: 0 of 3 files are in storage"):
        whole_uploads.seconds("nothing", folder, container, tmp_path / "home")


def test_each_part_of_the_page_is_written_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "transfer.md"
    page.write_text(f"# Uploads\n\n{transfer.WHOLE_MARK}\n\nold whole\n\n{transfer.MARK}\n\nold arms\n")
    monkeypatch.setattr(transfer, "DOCUMENT", page)
    transfer.write_part(transfer.WHOLE_MARK, "new whole\n")
    assert page.read_text() == f"# Uploads\n\n{transfer.WHOLE_MARK}\n\nnew whole\n\n{transfer.MARK}\n\nold arms\n"
    transfer.write_part(transfer.MARK, "new arms\n")
    assert page.read_text() == f"# Uploads\n\n{transfer.WHOLE_MARK}\n\nnew whole\n\n{transfer.MARK}\n\nnew arms\n"
