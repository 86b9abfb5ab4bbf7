"""The `az` of the agent: registries whose builds end in the emulator's folder of images; every call is written down.

Of a build it takes what the emulator knows of an image: the model that the Dockerfile copies to ``/model``.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
_COPY = re.compile(r"^COPY (\S+) /model/?$", re.MULTILINE)
_OPTIONS = {
    "login": ("--service-principal", "--username", "--tenant", "--federated-token", "--output"),
    "account set": ("--subscription",),
    "acr login": ("--name",),
    "acr repository show": ("--name", "--image", "--output"),
    "acr build": ("--registry", "--image", "--file", "--no-logs"),
    "acr import": ("--name", "--source", "--image", "--force"),
    "aks get-credentials": ("--resource-group", "--name", "--overwrite-existing"),
}
_FLAGS = ("--no-logs", "--force", "--overwrite-existing", "--service-principal")


def write_az(folder: Path, images: Path, calls: Path) -> None:
    """Write the program into a folder for PATH.

    Args:
        folder: Made where it is missing.
        images: Folder of the images that container groups of the emulator can pull.
        calls: File for the calls, one a line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "az"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from testing.support.azure_pipelines.agent_az import main\n"
        f"sys.exit(main(sys.argv[1:], Path({str(images)!r}), Path({str(calls)!r})))\n",
        encoding="utf-8",
    )
    script.chmod(0o755)


def main(words: Sequence[str], images: Path, calls: Path) -> int:
    """Do one command; returns its exit status."""
    with calls.open("a", encoding="utf-8") as log:
        log.write(" ".join(words) + "\n")
    command = next((name for name in _OPTIONS if " ".join(words).startswith(f"{name} ")), None)
    if command is None:
        print(f"ERROR: {' '.join(words[:3])!r} is not known to this az", file=sys.stderr)
        return 2
    options, rest = _parsed(words[len(command.split()) :])
    unknown = [name for name in options if name not in _OPTIONS[command]]
    if unknown:
        print(f"ERROR: unrecognized arguments: {' '.join(unknown)}", file=sys.stderr)
        return 2
    if command == "acr repository show":
        if _place(images, options["--name"], options["--image"]).is_dir():
            return 0
        print("ERROR: the manifest is not found", file=sys.stderr)
        return 1
    if command == "acr build":
        return _build(_place(images, options["--registry"], options["--image"]), Path(options["--file"]), Path(rest[0]))
    if command == "acr import":
        return _import(images, options)
    return 0


def _parsed(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--"):
            options[word] = "" if word in _FLAGS else waiting.pop(0)
        else:
            rest.append(word)
    return options, rest


def _place(images: Path, registry: str, image: str) -> Path:
    repository, _, tag = image.partition(":")
    return images / f"{registry}.azurecr.io" / repository / tag


def _build(place: Path, dockerfile: Path, context: Path) -> int:
    copied = _COPY.search(dockerfile.read_text(encoding="utf-8"))
    if copied is None:
        print(f"ERROR: {dockerfile} copies nothing to /model", file=sys.stderr)
        return 1
    shutil.copytree(context / copied[1], place)
    return 0


def _import(images: Path, options: dict[str, str]) -> int:
    registry, _, image = options["--source"].partition("/")
    source = _place(images, registry.removesuffix(".azurecr.io"), image)
    if not source.is_dir():
        print(f"ERROR: {options['--source']} is not found", file=sys.stderr)
        return 1
    shutil.copytree(source, _place(images, options["--name"], options["--image"]), dirs_exist_ok="--force" in options)
    return 0
