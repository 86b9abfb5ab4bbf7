"""The bundle that a command takes: a folder, or a registered version such as ``textile@champion``.

A reference is looked up in another process, `mlops models path`: the registry imports MLflow, which a server must not keep
in memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import RegistryError

BUNDLE_HELP = "Model bundle: `NAME@champion` or `NAME:3` of a registered model, or a folder."


@dataclass(frozen=True, slots=True)
class ChosenBundle:
    """A bundle to work with.

    Attributes:
        folder: Where it is. A registered one is read where the registry keeps it; only what lies in Azure is downloaded.
        name: Registered model; empty where a folder was named.
        version: Its version; empty likewise.
        warning: Why a registered one should perhaps not be served; empty if there is no reason.
    """

    folder: Path
    name: str = ""
    version: str = ""
    warning: str = ""


def choose_bundle(text: str) -> ChosenBundle:
    """Find the bundle that a text names: text with ``@`` or ``:`` is a reference, anything else the path of a folder.

    Args:
        text: ``outputs/bundles/textile``, ``textile@champion`` or ``textile:2``.

    Raises:
        RegistryError: the version does not exist, the text names both a folder and a registered version, or only a
            registered model without a version.
    """
    path = Path(text).expanduser()
    if re.match("(models|azureml):", text, re.IGNORECASE) and not path.exists():
        return registered_bundle(text)  # which says how to write it
    if os.sep in text or not ("@" in text or ":" in text):
        if path.name == text and not path.exists() and (paths.home() / "models" / text).is_dir():
            raise RegistryError(
                f"{text!r} is not a folder, and a registered model needs a version",
                f"write {text}@champion, or {text}:1 for a version",
            )
        return ChosenBundle(path)
    if not path.exists():
        return registered_bundle(text)
    try:
        registered_bundle(text)
    except RegistryError:
        return ChosenBundle(path)
    raise RegistryError(
        f"{text!r} is both a folder and a registered model",
        f"write {os.curdir}{os.sep}{text} for the folder, or rename it",
    )


def registered_bundle(reference: str) -> ChosenBundle:
    """Find the bundle of a registered version.

    Args:
        reference: ``NAME`` (latest), ``NAME:3`` or ``NAME@champion``.

    Raises:
        RegistryError: the version does not exist, or the registry cannot be read.
    """
    # Not as text, which the import graph reads: a step that is given a folder does not depend on the code behind this.
    package = __name__.partition(".")[0]
    command = [sys.executable, "-m", package, "models", "path", reference, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = re.search(r"^error: (.*)", done.stderr, re.DOTALL | re.MULTILINE)
        message, _, hint = (told[1] if told else done.stderr[-500:]).strip().partition("\n  -> ")
        raise RegistryError(message or f"{reference} cannot be looked up", hint)
    found = json.loads(done.stdout)
    return ChosenBundle(Path(found["path"]), found["name"], found["version"], found["warning"])
