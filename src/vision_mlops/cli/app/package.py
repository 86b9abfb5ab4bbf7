"""``mlops app package``: build the zip that App Service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.output import say
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_write

_OWN_BRAND = Path("app")
Samples = Annotated[
    Path | None, typer.Option("--samples", metavar="FOLDER", help="Show these images in the gallery.", file_okay=False)
]


Brand = Annotated[
    Path | None,
    typer.Option(
        "--brand",
        metavar="FOLDER",
        help="Use the name, colours, texts and logo of this folder.",
        file_okay=False,
        show_default=f"{_OWN_BRAND}, if it has a brand.yml",
    ),
]


def brand_folder(given: Path | None) -> Path | None:
    """Return the folder of the brand, checked: the given one, or that of the project in the current folder, if any.

    Raises:
        ConfigError: the brand cannot be read, or a value in it is wrong.
    """
    from vision_mlops.flask_app.brand import BRAND, load_brand

    folder = _OWN_BRAND if given is None and (_OWN_BRAND / BRAND).is_file() else given
    if folder is not None:
        load_brand(folder)
    return folder


def package(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Zip file to write.")] = Path("app.zip"),
    samples: Samples = None,
    brand: Brand = None,
) -> None:
    """Build the zip of the web frontend: its code, the pinned requirements, and its start script.

    The same content gives the same file, byte for byte. Unpacked, it starts with `sh startup.sh`.

    Example: `mlops app package --out app.zip`
    """
    from vision_mlops.endpoints.appservice.app_package import build_package

    made = build_package(samples, brand_folder(brand))
    try:
        atomic_write(out, made.content)
    except OSError as error:
        raise DeploymentError(f"{out} cannot be written: {error.strerror}", "choose another --out") from error
    typer.echo(f"{out}: {len(made.names)} files, {len(made.content) / 1e3:.0f} kB, sha256 {made.digest}")
    say(f"deploy it: mlops app deploy NAME --package {out}")
