"""``mlops predict``: classify images with a bundle."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle
from vision_mlops.cli.options import JsonOption, filled
from vision_mlops.cli.output import emit_json, fail, say, warn
from vision_mlops.core.errors import ImageError, MlopsError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import is_address


def predict(
    bundle: Annotated[str, typer.Argument(callback=filled, help=BUNDLE_HELP)],
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of them.")],
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Number of classes to print per image.", show_default="3")
    ] = None,
    explain: Annotated[Path | None, typer.Option(help="Write a heat map of the image to this PNG file.")] = None,
    json_: JsonOption = False,
) -> None:
    """Classify images.

    Example: `mlops predict textile@champion data/examples/nominal.jpg --top-k 3 --explain outputs/why.png`
    """
    from vision_mlops.data.image_files import on_one_line
    from vision_mlops.model.predictor import Predictor
    from vision_mlops.registry.version_index import warning_about_folder

    files, failed = _files(images)
    if explain is not None and len(files) != 1:
        raise MlopsError(f"--explain takes one image, not {len(files)}", "run it once per image")
    if explain is not None and explain.suffix.lower() != ".png":
        raise MlopsError(f"--explain {explain}: the heat map is a PNG image", "give a name that ends with .png")
    chosen = choose_bundle(bundle)
    if warning := chosen.warning if chosen.name else warning_about_folder(chosen.folder):
        warn(warning)
    predictor = Predictor(chosen.folder)
    if top_k is None:
        top_k = min(3, len(predictor.classes))
    elif top_k > len(predictor.classes):
        raise MlopsError(f"--top-k {top_k}: the model has {len(predictor.classes)} classes", "use a smaller number")
    results: list[dict[str, object]] = []
    for file in files:
        try:
            scores = predictor.score([predictor.pixels(file)], explain=explain is not None)
        except ImageError as error:
            failed.append(error)
            continue
        best = predictor.top(scores.probabilities[0], top_k)
        predictions = [{"label": label, "probability": round(value, 6)} for label, value in best]
        results.append({"image": os.fsencode(file).decode("utf-8", "backslashreplace"), "predictions": predictions})
        if not json_:
            typer.echo(f"{on_one_line(str(file))}: " + ", ".join(f"{label} {value:.2%}" for label, value in best))
        if explain is not None and scores.activation_maps is not None:
            winner = int(scores.probabilities[0].argmax())
            _write_heat_map(explain, predictor.pixels(file), scores.activation_maps[0, winner])
            say(f"wrote the heat map to {explain}")
    if json_:
        emit_json(results)
    for failure in failed[:-1]:
        fail(str(failure))
    if failed:
        raise failed[-1]


def _files(given: list[str]) -> tuple[list[Path], list[ImageError]]:
    """Return the given images and those in given folders, and what cannot be read there; skipped files are reported."""
    from vision_mlops.core.folder_walk import problem_of
    from vision_mlops.data.image_files import HIDDEN, IGNORED, images_below, on_one_line, summary

    files: list[Path] = []
    unreadable: list[ImageError] = []
    for text in given:
        path = Path(text)
        if not path.is_dir():
            if not os.path.lexists(path):
                if is_address(text):
                    raise MlopsError(f"{text} is an address; only files are read", "download it and give its path")
                if text == "-":
                    raise MlopsError("standard input is not read", "give the path of an image instead of -")
                raise MlopsError(f"{path} does not exist", "give the path of an image")
            if problem := problem_of(str(path)):
                raise MlopsError(f"{path} {problem}", "give the path of an image")
            files.append(path)
            continue
        found, left_out = images_below(path)
        skipped = [item for item in left_out if item.reason in (IGNORED, HIDDEN, "loop")]
        failed = [item for item in left_out if item not in skipped]
        for line in summary(skipped):
            warn(f"skipped: {line}")
        if not found and not failed:
            raise MlopsError(f"{path} has no images", "give an image, or a folder of images")
        files += found
        unreadable += [
            ImageError(f"{on_one_line(str(path / item.name))} {item.problem}", "check it, or remove it", "unreadable")
            for item in failed
        ]
    return files, unreadable


def _write_heat_map(path: Path, pixels: object, activation_map: object) -> None:
    from PIL import Image

    from vision_mlops.model.explanations import overlay

    stream = io.BytesIO()
    overlay(Image.fromarray(pixels), activation_map).save(stream, "PNG")  # type: ignore[arg-type]
    atomic_write(path, stream.getvalue())
