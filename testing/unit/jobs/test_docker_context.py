"""Docker contexts: small ones as they are, large ones packed, and those that cannot be made small enough."""

from __future__ import annotations

import random
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

import vision_mlops
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.jobs.azureml.docker_context import MAX_BYTES, MAX_FILES, small_context
from vision_mlops.jobs.azureml.environment_assets import read_source
from vision_mlops.jobs.azureml.job_resources import content_hash

ROOT = Path(vision_mlops.__file__).parents[2]
IMAGES = ("inferencing_image", "mlops_pipeline_image", "training_image")


def make_context(folder: Path, files: int, line: str = "ADD src* src/") -> Path:
    for number in range(files):
        path = folder / "src" / f"part{number % 7}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"x = {number}\n")
    (folder / "Dockerfile").write_text(f"FROM scratch\n{line}\n")
    (folder / ".amlignore").write_text("*.tmp\n")
    return folder


def test_a_small_context_is_sent_as_it_is(tmp_path: Path) -> None:
    folder = make_context(tmp_path, MAX_FILES - 2)
    with small_context(folder, "Dockerfile") as context:
        assert context == folder


def test_a_large_one_is_packed(tmp_path: Path) -> None:
    folder = make_context(tmp_path / "one", 150)
    (folder / "src" / "left.tmp").write_text("out")
    other = make_context(tmp_path / "two", 150)
    with small_context(folder, "Dockerfile") as context, small_context(other, "Dockerfile") as again:
        assert sorted(path.name for path in context.iterdir()) == [".amlignore", "Dockerfile", "src.tar.gz"]
        assert content_hash(context) == content_hash(again)
        shutil.unpack_archive(context / "src.tar.gz", tmp_path / "unpacked")
    assert snapshot_files(tmp_path / "unpacked") == [
        name.removeprefix("src/") for name in snapshot_files(folder) if name.startswith("src/")
    ]
    assert not context.exists()


def test_a_dockerfile_that_would_not_find_the_folder(tmp_path: Path) -> None:
    folder = make_context(tmp_path, 150, "COPY src/ src/")
    with (
        pytest.raises(PipelineError, match=r"Dockerfile does not unpack the folder 'src'\n  -> write `ADD src\* src/`"),
        small_context(folder, "Dockerfile"),
    ):
        pass


@pytest.mark.parametrize(
    ("line", "told"),
    [("COPY requirements/ requirements/", False), ("COPY --from=packages /src /src", False), ("ADD src /src", True),
     ("COPY setup.cfg ./src/part1 /x/", True), ("COPY . .", True), ("copy ./ /app", True)],
)  # fmt: skip
def test_a_folder_that_the_dockerfile_does_not_take_may_be_packed(tmp_path: Path, line: str, told: bool) -> None:
    folder = make_context(tmp_path, 150, line)
    with pytest.raises(PipelineError) if told else nullcontext(), small_context(folder, "Dockerfile"):
        pass


def test_one_that_stays_too_large(tmp_path: Path) -> None:
    folder = make_context(tmp_path, 150)
    (folder / "src" / "noise.bin").write_bytes(random.Random(0).randbytes(MAX_BYTES))
    with (
        pytest.raises(
            PipelineError, match=r"has 3 files of 1\.0 MB, packed; Azure ML accepts at most 100 files of 1 MB"
        ),
        small_context(folder, "Dockerfile"),
    ):
        pass


@pytest.mark.parametrize("image", IMAGES)
def test_the_shipped_context_fits(image: str) -> None:
    dockerfile = f"environments/docker/{image}/Dockerfile"
    with small_context(ROOT, dockerfile) as context:
        files = [path for path in context.rglob("*") if path.is_file()]
        assert len(files) <= MAX_FILES
        assert sum(path.stat().st_size for path in files) <= MAX_BYTES
        assert (context / dockerfile).read_bytes() == (ROOT / dockerfile).read_bytes()


def test_the_version_of_an_environment_is_that_of_its_content(tmp_path: Path) -> None:
    make_context(tmp_path / "context", 3)
    file = tmp_path / "train.yml"
    file.write_text("name: a\ndescription: old\nbuild: {path: ./context}\n")
    first = read_source(file).version()
    file.write_text("build:\n  path: context/../context\nname: b\n")
    (tmp_path / "context" / "src" / "x.tmp").write_text("ignored")
    # The same content, but it is named in another way: only the path in the file differs.
    assert read_source(file).version() == first
    (tmp_path / "context" / "src" / "part0" / "0.py").write_text("changed")
    assert read_source(file).version() != first
    file.write_text("name: a\nimage: python:3.11\nconda_file: nowhere.yml\n")
    with pytest.raises(PipelineError, match=r"nowhere\.yml cannot be read"):
        read_source(file).version()
