"""The images of an engine: pulled, or built from a context of which only files, variables and labels are used."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from azureml_emulator.resources.rest_resources import now
from azureml_emulator.rest.rest_calls import ServiceRefusalError
from azureml_emulator.whole_files import write_whole

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)\s+(.*)", re.DOTALL)


@dataclass(frozen=True)
class EngineImage:
    """One image.

    Attributes:
        id: Sixty-four hexadecimal digits; the same for the same content.
        tags: Names of the image.
        labels: Labels of the image.
        variables: Environment variables of its processes.
        root: Folder with the files that were copied into it; empty if it has none.
        created: When it was pulled or built.
    """

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    created: str = field(default_factory=now)


def tagged(reference: str) -> str:
    """Return a reference as the engine shows it: without the default registry, and with a tag."""
    short = reference.removeprefix("docker.io/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"


class EngineImages:
    """All images of an engine, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "images.json"
        kept = json.loads(self._file.read_text()) if self._file.exists() else []
        self._images = [EngineImage(**{**item, "tags": tuple(item["tags"])}) for item in kept]

    def all(self) -> list[EngineImage]:
        """Return the images, oldest first."""
        return list(self._images)

    def find(self, reference: str) -> EngineImage | None:
        """Return an image by one of its names, or by its id or the beginning of its id."""
        wanted = reference.removeprefix("sha256:")
        for image in self._images:
            if tagged(reference) in image.tags or (len(wanted) >= 12 and image.id.startswith(wanted)):
                return image
        return None

    def get(self, reference: str) -> EngineImage:
        """Return an image.

        Raises:
            ServiceRefusalError: 404, it is missing.
        """
        found = self.find(reference)
        if found is None:
            raise ServiceRefusalError(404, "NotFound", f"No such image: {tagged(reference)}")
        return found

    def pull(self, reference: str, variables: Mapping[str, str]) -> EngineImage:
        """Pull an image from a registry: only its name is known, and the variables that it is assumed to set."""
        name = tagged(reference)
        return self._keep(EngineImage(hashlib.sha256(name.encode()).hexdigest(), (name,), {}, variables))

    def build(
        self,
        context: bytes,
        dockerfile: str,
        tags: list[str],
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> EngineImage:
        """Build an image. Nothing is run: files of its last stage are copied, and its variables and labels are used.

        Args:
            context: The files, as a tar archive.
            dockerfile: Path of the Dockerfile in the context.
            tags: Names of the image.
            arguments: Values of ``ARG`` in the Dockerfile.
            labels: Additional labels.

        Raises:
            ServiceRefusalError: 400, the Dockerfile cannot be read, or copies files that do not exist.
        """
        staged = self._folder / "building"
        shutil.rmtree(staged, ignore_errors=True)
        files = staged / "context"
        files.mkdir(parents=True)
        try:
            # Docker's command line omits the zeros at the end of an archive.
            with tarfile.open(fileobj=io.BytesIO(context + bytes(-len(context) % 512 + 1024))) as archive:
                archive.extractall(files, filter="data")
            recipe = (files / dockerfile).read_text()
        except (OSError, tarfile.TarError) as error:
            raise _unbuildable(f"Cannot locate specified Dockerfile: {dockerfile} ({error})") from error
        stage = self._run(recipe, files, staged, dict(arguments))
        stage.labels.update(labels)
        digest = hashlib.sha256(json.dumps([sorted(stage.labels.items()), sorted(stage.variables.items())]).encode())
        for path in sorted(files.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(files)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        root = self._folder / "images" / digest.hexdigest()
        if not root.exists():
            root.parent.mkdir(exist_ok=True)
            stage.root.rename(root)
        shutil.rmtree(staged)
        names = tuple(tagged(tag) for tag in tags)
        return self._keep(EngineImage(digest.hexdigest(), names, stage.labels, stage.variables, str(root)))

    def _run(self, recipe: str, files: Path, staged: Path, arguments: dict[str, str]) -> _Stage:
        stage = _Stage(staged / "none")
        given: dict[str, str] = {}
        for number, (word, rest) in enumerate(_instructions(recipe)):
            values = _expanded(rest, {**given, **stage.variables})
            if word == "ARG":
                name, _, default = values.partition("=")
                given[name] = arguments.get(name, default.strip("\"'"))
            elif word == "FROM":
                base = self.find(values.split()[0])
                stage = _Stage(staged / f"stage-{number}")
                stage.root.mkdir()
                if base is not None:
                    stage.labels, stage.variables = dict(base.labels), dict(base.variables)
                    if base.root:
                        shutil.copytree(base.root, stage.root, dirs_exist_ok=True)
            elif word in ("ENV", "LABEL"):
                pairs = dict(part.split("=", 1) for part in shlex.split(values) if "=" in part)
                (stage.variables if word == "ENV" else stage.labels).update(pairs)
            elif word == "COPY" and not values.startswith("--from"):
                _copy([part for part in shlex.split(values) if not part.startswith("--")], files, stage.root)
        if stage.root.name == "none":
            raise _unbuildable("the Dockerfile has no stage: FROM is missing")
        return stage

    def _keep(self, image: EngineImage) -> EngineImage:
        """Keep an image; other images lose its names."""
        same = next((item for item in self._images if item.id == image.id), None)
        tags = tuple(dict.fromkeys([*(same.tags if same else ()), *image.tags]))
        others = [
            replace(item, tags=tuple(tag for tag in item.tags if tag not in tags))
            for item in self._images
            if item is not same
        ]
        made = replace(image, tags=tags)
        self._images = [*others, made]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, json.dumps([asdict(item) for item in self._images]))
        return made


@dataclass
class _Stage:
    """A stage of a Dockerfile, and its content so far."""

    root: Path
    labels: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


def _instructions(recipe: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: comments are dropped, continued lines are joined."""
    lines = "\n".join(line for line in recipe.splitlines() if not line.lstrip().startswith("#"))
    found = []
    for line in lines.replace("\\\n", " ").splitlines():
        if match := _INSTRUCTION.fullmatch(line):
            found.append((match[1].upper(), match[2].strip()))
    return found


def _expanded(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def _copy(words: list[str], files: Path, root: Path) -> None:
    *sources, target = words
    place = _below(root, target)
    for source in sources:
        path = _below(files, source)
        if path.is_dir():
            shutil.copytree(path, place, dirs_exist_ok=True)
        elif path.is_file():
            into = place / path.name if target.endswith("/") or len(sources) > 1 else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, into)
        else:
            raise _unbuildable(f"COPY failed: file not found in build context: {source}")


def _below(folder: Path, path: str) -> Path:
    """Return a path in a folder; refuse paths that lead out of it."""
    found = (folder / path.lstrip("/")).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise _unbuildable(f"COPY failed: forbidden path outside the build context: {path}")
    return found


def _unbuildable(message: str) -> ServiceRefusalError:
    return ServiceRefusalError(400, "BadRequest", message)
