"""Pictures of an evaluation: the confusion matrix, the most confident mistakes, and heat maps of single images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vision_mlops.core.figures import Picture
from vision_mlops.data.manifest import ImageRecord, SplitName, read_manifest
from vision_mlops.evaluation.evaluate import read_evaluation
from vision_mlops.images.picture_grid import GridImage, picture_grid
from vision_mlops.model.explanations import overlay
from vision_mlops.model.predictor import Predictor

CONFUSION_MATRIX, RELIABILITY = "confusion_matrix", "reliability"


def evaluation_picture(report: Path, name: str) -> Picture:
    """Return one of the pictures that an evaluation has drawn.

    Args:
        report: Folder that `mlops evaluate` wrote.
        name: Such as :data:`CONFUSION_MATRIX`.

    Raises:
        MlopsError: the folder is no evaluation.
    """
    folder = read_evaluation(report).folder
    text = (folder / f"{name}.svg").read_text(encoding="utf-8")
    return Picture(text[text.index("<svg") :])


def draw_mistakes(report: Path, *, most: int = 6) -> Picture | str:
    """Draw the most confident mistakes, each beside its heat map for the class that was predicted.

    Args:
        report: Folder that `mlops evaluate` wrote.
        most: Mistakes at most.

    Returns:
        The picture, or a sentence where every image was classified correctly.

    Raises:
        MlopsError: the folder is no evaluation.
    """
    evaluation = read_evaluation(report)
    found = evaluation.metrics["mistakes"][:most]
    if not found:
        return f"No mistake among {evaluation.metrics['images']} test images."
    shown = []
    for item in found:
        with Image.open(evaluation.folder / item["image"]) as pair:
            taken_for = f"taken for {item['predicted']}", f"with {item['probability']:.1%}"
            shown.append(GridImage(pair.convert("RGB"), (f"is {item['label']}", *taken_for)))
    return picture_grid(shown, columns=3, edge=230)


def draw_heat_maps(bundle: Path, data: Path, *, split: SplitName = "test", most_classes: int = 6) -> Picture:
    """Draw the first image of each class, and which parts of it led to the predicted class.

    Args:
        bundle: The bundle.
        data: Prepared data.
        split: Where the images are taken from.
        most_classes: Images; further classes are left out.

    Raises:
        BundleError: the bundle is broken.
        DataError: the folder is not prepared.
    """
    predictor = Predictor(bundle)
    first: dict[str, ImageRecord] = {}
    for record in read_manifest(data).of_split(split):
        first.setdefault(record.label, record)
    shown = []
    for label in sorted(first)[:most_classes]:
        pixels = predictor.pixels(data / first[label].path)
        scores = predictor.score([pixels], explain=True)
        assert scores.activation_maps is not None
        best = int(scores.probabilities[0].argmax())
        seen = Image.fromarray(pixels)
        said = f"{predictor.classes[best]} with {scores.probabilities[0, best]:.1%}"
        shown += [GridImage(seen, (f"is {label}",)), GridImage(overlay(seen, scores.activation_maps[0, best]), (said,))]
    return picture_grid(shown, columns=4)
