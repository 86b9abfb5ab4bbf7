"""Images: that of the scoring server, built when it is missing, and those that hold a model as well."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.config.azure_settings import REGISTRY_HOST, AzureSettings
from vision_mlops.config.variable_settings import read_setting
from vision_mlops.containers.container_engine import Engine
from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.hashing import file_hash
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, Say
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.registry import ModelVersion

REGISTRY_VARIABLE = "MLOPS_AZURE_CONTAINER_REGISTRY"
NAME = "mlops-inferencing"
CONTEXT = ("LICENSE", "README.md", "pyproject.toml", "requirements", "src/vision_mlops")
"""What the image is made of; .dockerignore keeps everything else out."""
_FOLDER = Path("environments") / "docker" / "inferencing_image"
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*")
_BASE_LABEL = "vision-mlops.inferencing-image"
_MANIFEST_LABEL = "vision-mlops.manifest"


def served_image(engine: Engine, image: str, say: Say) -> str:
    """Return the image of the scoring server: the given one, pulled where needed, or our own.

    Raises:
        DeploymentError: it cannot be pulled or built.
    """
    if image:
        if engine.image(image) is None:
            say(f"pulling {image}")
            engine.pull(image)
        return image
    folder = _project()
    tag = f"{NAME}:{context_hash(folder, engine.build_options)}"
    if engine.image(tag) is None:
        say(f"building {tag}, which takes a few minutes the first time")
        engine.build(folder, folder / _FOLDER / "Dockerfile", [tag, f"{NAME}:latest"], (), _build_log())
    return tag


def bake(engine: Engine, request: DeploymentRequest, say: Say) -> str:
    """Build the image that holds the model of a request, where it is missing or has an older server; returns its name.

    Raises:
        DeploymentError: it cannot be built.
    """
    base = served_image(engine, request.options.image, say)
    base_id = identity(engine, base)
    bundle = request.bundle()
    name = baked_image(read_setting(REGISTRY_VARIABLE), request.model)
    labels = {_BASE_LABEL: base_id, _MANIFEST_LABEL: file_hash(bundle / MANIFEST)}
    found = engine.image(name)
    if found is not None and all(found[1].get(key) == value for key, value in labels.items()):
        return name
    say(f"building {name}")
    arguments = {
        "INFERENCING_IMAGE": base,
        "MODEL_NAME": request.model.name,
        "MODEL_VERSION": str(request.model.version),
    }
    options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    options += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    dockerfile = paths.repository() / _FOLDER / "baked.Dockerfile"
    with tempfile.TemporaryDirectory(prefix="mlops-bake-") as context:
        copy_readable(bundle, Path(context, "bundle"))
        engine.build(Path(context), dockerfile, [name], options, _build_log())
    return name


def write_context(out: Path, base: str, bundle: Path, model: ModelVersion) -> None:
    """Write what an image that holds a model is built from, for a machine that has no container engine.

    Args:
        out: Folder to write, whole or not at all; must not exist.
        base: Image of the scoring server.
        bundle: Of the model.
        model: Which version it is.

    Raises:
        DeploymentError: the folder exists.
    """
    if out.exists():
        raise DeploymentError(f"{out} exists already", "choose another --context, or remove it")
    text = (paths.repository() / _FOLDER / "baked.Dockerfile").read_text(encoding="utf-8")
    for name, value in (
        ("INFERENCING_IMAGE", base),
        ("MODEL_NAME", f'"{model.name}"'),
        ("MODEL_VERSION", f'"{model.version}"'),
    ):
        text, found = re.subn(rf"^ARG {name}=.*$", f"ARG {name}={value}", text, flags=re.MULTILINE)
        if not found:
            raise DeploymentError(f"baked.Dockerfile has no ARG {name}", "take the one of this release")
    with atomic_folder(out) as folder:
        copy_readable(bundle, folder / "bundle")
        (folder / "Dockerfile").write_text(text, encoding="utf-8")


def baked_image(registry: str, model: ModelVersion) -> str:
    """Return the name of the image that holds a model version, in a registry where one is given.

    Raises:
        DeploymentError: the version has no bundle id, or its name, or the registry, cannot be part of that of an image.
    """
    place = registry.removesuffix("/")
    if registry and not re.fullmatch(REGISTRY_HOST, place):
        raise DeploymentError(
            f"{registry!r} cannot be the registry of an image",
            f"write it as crvision.azurecr.io, or HOST:PORT/PATH, without https:// (--registry, {REGISTRY_VARIABLE})",
        )
    repository = f"mlops-{model.name.lower()}"
    if not _REPOSITORY.fullmatch(repository):
        raise DeploymentError(
            f"{repository!r} cannot be the name of an image",
            "remove --bake, or register the model under another name",
        )
    if not model.bundle_id:
        raise DeploymentError(f"{model.reference} has no bundle id", "register its bundle again")
    name = f"{repository}:{model.version}-{model.bundle_id[:12]}"
    return f"{place}/{name}" if place else name


def push_command(engine: Engine, image: str) -> str:
    """Return the command that pushes an image to a registry."""
    if "/" in image:
        return f"{engine.name} push {image}"
    return f"set {REGISTRY_VARIABLE}, deploy again, and push what that builds"


def identity(engine: Engine, reference: str) -> str:
    """Return the id of an image that was just found. Raises DeploymentError."""
    found = engine.image(reference)
    if found is None:
        raise DeploymentError(f"image {reference} no longer exists", "try again")
    return found[0]


def context_hash(folder: Path, options: tuple[str, ...] = ()) -> str:
    """Return twelve digits that change with everything that goes into the image."""
    digest = hashlib.sha256("\0".join(options).encode())
    for file in (folder / _FOLDER / "Dockerfile", *_context(folder)):
        content = file_hash(file)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:12]


def copy_readable(source: Path, target: Path) -> None:
    """Copy a folder so that every user may read it; the folder above decides who has access."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _context(folder: Path) -> Iterator[Path]:
    for name in CONTEXT:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(folder).parts
            generated = any(part == "__pycache__" or part.endswith(".egg-info") for part in parts)
            if file.is_file() and not generated and file.suffix != ".pyc":
                yield file


def _build_log() -> Path:
    log = paths.home() / "endpoints" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _project() -> Path:
    """Return the repository, with what the image is built from."""
    for folder in (Path.cwd(), Path(__file__).parents[3]):
        if (folder / _FOLDER / "Dockerfile").is_file() and (folder / "src" / "vision_mlops").is_dir():
            return folder
    raise DeploymentError(
        f"the image cannot be built: this folder has no {_FOLDER.as_posix()}",
        "run the command in a clone of the repository, or give --image",
    )


def image_in_azure(options: DeploymentOptions, settings: AzureSettings) -> str:
    """Return the image of the options, else that of the settings. Raises DeploymentError where neither has one."""
    image = options.image or settings.inferencing_image
    if not image:
        raise DeploymentError(
            "no image of the scoring server is given",
            "push environments/docker/inferencing_image to a container registry, and name it with --image or"
            " MLOPS_AZURE_INFERENCING_IMAGE",
        )
    return image
