"""Strict, frozen models of a workload file: one file describes one classifier from data to serving."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vision_mlops.core.text import nearest

NAME = r"[a-z][a-z0-9_-]{1,62}"
NAME_RULE = "2 to 63 lower case letters, digits, '-' and '_', starting with a letter"
_SHA256 = r"^[0-9a-f]{64}$"
PATTERNS = {f"^{NAME}$": NAME_RULE, _SHA256: "64 hexadecimal digits in lower case"}
"""What a pattern demands, in words."""
"""What the name of a workload may be; models and data assets are named after it."""
_WORD = r"[^\W\d]\w*"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
MEASURED = ("accuracy", "macro_f1", "expected_calibration_error")
"""Metrics that each run in MLflow has, as ``test_NAME``."""


def _inner_path(value: str) -> str:
    """Check a path inside an archive."""
    if value and ("\\" in value or any(part.startswith(".") or not part.strip() for part in value.split("/"))):
        raise ValueError("must be a relative path with forward slashes, without .. and hidden parts")
    return value


def _address(value: str) -> str:
    """Check the address of a file."""
    parts = urlsplit(value)
    known = (parts.scheme in ("http", "https") and parts.hostname) or (parts.scheme == "file" and not parts.netloc)
    if not known or any(sign.isspace() for sign in value):
        raise ValueError("must be an http, https or file address")
    return value


def _reference(value: str) -> str:
    """Check the name of a function of the project's own."""
    if value and not re.fullmatch(rf"{_WORD}(\.{_WORD})*:{_WORD}", value):
        raise ValueError("must be module:function, such as my_code.images:grey_world of my_code/images.py")
    return value


Reference = Annotated[str, AfterValidator(_reference)]
Address = Annotated[str, AfterValidator(_address)]
InnerPath = Annotated[str, AfterValidator(_inner_path)]


class StrictModel(BaseModel):
    """Unknown keys are errors, values are immutable, nothing is coerced from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Split(StrictModel):
    """Fractions of the images in each split, drawn per class."""

    train: Fraction = Field(0.7, description="Share of the images that the network learns from.")
    val: Fraction = Field(
        0.15, description="Share that decides when training stops, and that calibrates the probabilities."
    )
    test: Fraction = Field(0.15, description="Share that the report and the gate measure on.")
    seed: int = Field(0, description="Seed of the split.")

    @model_validator(mode="after")
    def _sum_is_one(self) -> Split:
        if abs(self.train + self.val + self.test - 1.0) > 1e-6:
            raise ValueError(f"train + val + test must be 1, not {self.train + self.val + self.test:g}")
        if min(self.train, self.val, self.test) <= 0:
            raise ValueError("train, val and test must each be above 0")
        return self


class Archive(StrictModel):
    """A file to download, or one of this machine (``file://``). Size and checksum are those that its publisher states."""

    url: Address = Field(description="Where the file is.")
    size: Annotated[int, Field(ge=1)] | None = Field(None, description="Bytes; anything else is refused.")
    sha256: Annotated[str, Field(pattern=_SHA256)] | None = Field(
        None, description="Its checksum; anything else is refused."
    )
    into: InnerPath = Field("", description="Folder that its content goes to.")


class SplitLists(StrictModel):
    """Published splits: files of the archives that list images, as text (a path a line) or MATLAB 5 cell array."""

    train: Annotated[InnerPath, Field(min_length=1)] = Field(description="File that lists the training images.")
    val: InnerPath = Field(
        "", description="File that lists the validation images; without it they are drawn from the others."
    )
    test: InnerPath = Field(
        "", description="File that lists the test images; without it they are drawn from the others."
    )

    def named(self) -> dict[Literal["train", "val", "test"], str]:
        """Return the file of each split that has one."""
        given: dict[Literal["train", "val", "test"], str] = {"train": self.train, "val": self.val, "test": self.test}
        return {split: path for split, path in given.items() if path}


class Download(StrictModel):
    """A public dataset, for ``source: download``: what `mlops data fetch` downloads and how it becomes class folders."""

    homepage: str = Field("", description="Page of the dataset, recorded with the images.")
    licence: str = Field("", description="Terms of use, shown and recorded with the images.")
    citation: str = Field("", description="How its authors want to be cited, recorded with the images.")
    archives: Annotated[list[Archive], Field(min_length=1)]
    images: InnerPath | None = Field(
        None,
        description="Folder in the archives with the class folders; without it, the innermost that has all images.",
    )
    label_pattern: str = Field("(.+)", description="Regular expression of a class folder; its group is the class.")
    splits: SplitLists | None = None
    list_variable: str = Field("file_list", description="Variable of a MATLAB list that holds the paths.")
    max_size: PositiveInt | None = Field(
        None, description="Maximum bytes after extraction; by default 20 times the archives, at least 256 MB."
    )

    @field_validator("label_pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"must have one group, the class name, not {groups}")
        return value

    @property
    def size(self) -> int | None:
        """Bytes of all archives; None where one is not known."""
        sizes = [archive.size for archive in self.archives]
        return None if None in sizes else sum(size for size in sizes if size is not None)


Strength = Annotated[float, Field(ge=0.0, le=5.0)]


class Corruptions(StrictModel):
    """Damage to the images of the bundled dataset, to have one that is harder to learn.

    Of each corruption, an image gets a strength drawn evenly from 0 to the number given here; 1 to 5 are those of `mlops
    evaluate --robustness`.
    """

    blur: Strength = Field(0.0, description="Largest strength of the blur.")
    noise: Strength = Field(0.0, description="Largest strength of the noise.")
    jpeg: Strength = Field(0.0, description="Largest strength of the compression.")
    contrast: Strength = Field(0.0, description="Largest loss of contrast.")
    seed: int = Field(0, description="Seed of the strengths.")


class Data(StrictModel):
    """Where the images come from. ``source: bundled`` is the textile dataset of the train extra."""

    source: Literal["bundled", "folder", "download"] = Field(
        "folder",
        description="bundled: the textile images of the train extra; folder: your own images; download: a public dataset.",
    )
    path: str = Field(
        "",
        description="Folder of class folders, registered data (azureml:NAME:VERSION), or a folder to download to;"
        " --images overrides it.",
    )
    download: Download | None = None
    corrupt: Corruptions | None = Field(None, description="Damage to the images of `source: bundled`.")
    split: Split = Split()
    min_images_per_class: PositiveInt = Field(5, description="A class with fewer images is left out and named.")
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = Field(
        50_000_000, description="Largest width x height of an image; Pillow itself refuses more than 178,956,970."
    )

    @model_validator(mode="after")
    def _sections_are_for_the_source(self) -> Data:
        if self.source == "download" and self.download is None:
            raise ValueError("source: download needs a section `download:` with archives")
        if self.corrupt is not None and self.source != "bundled":
            raise ValueError("`corrupt:` is for source: bundled only; images of your own stay as they are")
        return self


class Model(StrictModel):
    """The network and its input."""

    backbone: str = Field(
        "tf_efficientnet_lite0",
        description="Any timm model name, or module:function that returns a network of your own.",
    )
    pretrained: bool = Field(
        True, description="Start from pretrained weights; without them the network learns from scratch."
    )
    image_size: Annotated[int, Field(ge=16, le=1024)] = Field(
        224, description="Edge in pixels that images are scaled to."
    )
    resize: Literal["squash", "crop"] = Field(
        "squash",
        description="squash scales both edges and cuts nothing; crop keeps the proportions and cuts the centre.",
    )
    frozen_stages: Annotated[int, Field(ge=0)] = Field(
        2, description="Keep the stem and this many stages as pretrained."
    )
    dropout: Fraction = Field(0.1, description="Share of the features that is dropped at random before the last layer.")
    transform: Reference = Field(
        "", description="module:function that changes the images before the network, in training and serving alike."
    )

    @property
    def has_own_backbone(self) -> bool:
        """Whether the backbone is code of the project and no model of timm."""
        return ":" in self.backbone

    @model_validator(mode="before")
    @classmethod
    def _own_backbones_freeze_themselves(cls, content: Any) -> Any:
        if not isinstance(content, dict) or ":" not in str(content.get("backbone", "")):
            return content
        _reference(str(content["backbone"]))
        if content.get("frozen_stages"):
            raise ValueError(
                "frozen_stages counts stages of timm's models; a backbone of your own freezes parameters in its function"
                " (parameter.requires_grad_(False)): leave it out"
            )
        return {**content, "frozen_stages": 0}


class Augment(StrictModel):
    """Random changes of training images. With flips and turns alone, the frozen prefix is computed only once."""

    horizontal_flip: bool = Field(True, description="Mirror left and right.")
    vertical_flip: bool = Field(False, description="Mirror top and bottom.")
    rotate90: bool = Field(False, description="Turn by 90, 180 or 270 degrees.")
    crop_scale: Annotated[float, Field(gt=0.0, le=1.0)] = Field(1.0, description="Smallest share of the area kept.")
    brightness: Fraction = Field(0.0, description="Largest change of the brightness, as a share of the whole range.")
    contrast: Fraction = Field(0.0, description="Largest relative change of the contrast.")
    transform: Reference = Field(
        "",
        description="module:function that changes batches of training images; frozen stages are not computed once then.",
    )

    @property
    def views(self) -> int:
        """Number of distinct pictures that flips and turns make of one image."""
        return (2 if self.horizontal_flip else 1) * (2 if self.vertical_flip else 1) * (4 if self.rotate90 else 1)

    @property
    def finite(self) -> bool:
        """Whether an image has only :attr:`views` variants, so that each can be cached."""
        return self.crop_scale == 1.0 and self.brightness == 0.0 and self.contrast == 0.0 and not self.transform


class Training(StrictModel):
    """The optimiser and the loop."""

    epochs: PositiveInt = Field(4, description="Passes over the training images, at most.")
    batch_size: PositiveInt = Field(32, description="Images of one step of the optimiser.")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(2e-3, description="Peak of the one-cycle schedule.")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="Decay of the weights in the optimiser, AdamW."
    )
    warmup: Fraction = Field(0.25, description="Share of the steps in which the rate rises.")
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.05, description="Share of a label that is spread over the other classes."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "balanced", description="balanced weighs the loss of a class by how rare it is."
    )
    augment: Augment = Augment()
    early_stopping_patience: PositiveInt = Field(
        5, description="Epochs without a better validation loss before training ends."
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(0, description="Same seed and machine, same weights.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto takes bf16 where the GPU or processor computes it faster than fp32."
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto takes a GPU where there is one.")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="Processes that decode images.")
    cache_prefix: bool = Field(True, description="Compute frozen stages once where the augmentation is finite.")
    cache_limit_mb: PositiveInt = Field(
        4096, description="Maximum memory for decoded images, and for the features of frozen stages."
    )


class EvaluationSettings(StrictModel):
    """What an evaluation measures beyond the unchanged test images."""

    robustness: bool = Field(
        False, description="Accuracy on corrupted images, too; measured as well where the gate has a floor for it."
    )
    metrics: list[Reference] = Field(
        [], description="module:function of your own measures, from labels (N,) and probabilities (N, C) to a number."
    )

    @field_validator("metrics")
    @classmethod
    def _names_are_unique(cls, value: list[str]) -> list[str]:
        names = [text.partition(":")[2] for text in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two functions are called {twice!r}: rename one, because the metric is named after it")
        if taken := next((name for name in names if name in MEASURED), None):
            raise ValueError(f"{taken!r} is the name of a built-in metric: rename the function")
        return value

    @property
    def metric_names(self) -> list[str]:
        """What the metrics are called: as the functions."""
        return [text.partition(":")[2] for text in self.metrics]


class Gate(StrictModel):
    """What a candidate must reach, and when it counts as better than the champion."""

    min_accuracy: Fraction = Field(0.9, description="Floor of the accuracy on the test images.")
    min_recall_per_class: Fraction = Field(0.7, description="Floor of the recall of every class.")
    max_calibration_error: Fraction = Field(0.1, description="Ceiling of the expected calibration error.")
    max_latency_ms: Annotated[float, Field(gt=0.0)] = Field(
        200.0, description="Ceiling of the median per image on one thread."
    )
    max_accuracy_drop: Fraction = Field(
        0.0, description="Accuracy below that of the champion that still counts as equal."
    )
    significance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.05, description="Level of the paired test.")
    min_robustness_accuracy: Fraction | None = Field(
        None, description="Floor of the mean accuracy on corrupted images; not checked by default."
    )
    min_metrics: dict[str, float] = Field({}, description="Floor by name, for metrics of `evaluation.metrics`.")


def _destination(value: str) -> str:
    """Check what an address in Blob Storage begins with; the rest is checked where it is used."""
    if value and not value.startswith(("https://", "http://", "azureml://", "datastore:")):
        raise ValueError(
            "must be empty, https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH or azureml://datastores/NAME/paths/PATH"
        )
    return value


class Predictions(StrictModel):
    """Predictions that the scoring server keeps to be looked at later; none by default."""

    sample: Fraction = Field(0.0, description="Share of the requests whose predictions are kept.")
    to: Annotated[str, AfterValidator(_destination)] = Field(
        "", description="Folder in Blob Storage that they are sent to; without it they stay in MLOPS_HOME/predictions."
    )
    images: bool = Field(False, description="Keep the images as well; they may show people.")
    max_disk_mb: PositiveInt = Field(
        512, description="Maximum that is kept on this machine; the oldest are removed first."
    )


def _origin(value: str) -> str:
    """Check the origin of a web page, as browsers send it: in lower case, without a path."""
    if value != "*" and not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?", value):
        raise ValueError("must be an origin in lower case and without a path, such as https://example.com, or *")
    return value


Origin = Annotated[str, AfterValidator(_origin)]


class Serving(StrictModel):
    """Defaults of the scoring server."""

    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port of the server; 0 takes a free one.")
    workers: Annotated[int, Field(ge=0, le=64)] = Field(0, description="Worker processes; 0 takes one per core.")
    max_body_mb: PositiveInt = Field(20, description="Largest body of a request, before and after decompression.")
    max_batch: PositiveInt = Field(64, description="Maximum number of images in one request.")
    max_queue: PositiveInt = Field(64, description="Requests that may wait in one worker; further ones get status 429.")
    max_connections: PositiveInt = Field(
        4096, description="Open connections of all workers; further ones wait in the queue of the system."
    )
    head_timeout_s: PositiveInt = Field(10, description="Seconds within which the head of a request must be complete.")
    request_timeout_s: PositiveInt = Field(30, description="Seconds within which a request must be answered.")
    keep_alive_s: PositiveInt = Field(
        75, description="Seconds that an idle connection stays open; longer than the usual proxies keep theirs."
    )
    drain_timeout_s: PositiveInt = Field(30, description="Seconds to finish accepted requests before the server stops.")
    cors_origins: list[Origin] = Field([], description="Origins whose web pages may read responses; * allows all.")
    predictions: Predictions = Predictions()


class Workload(StrictModel):
    """One classifier: its data, network, training, quality gate and serving."""

    name: Annotated[str, Field(pattern=rf"^{NAME}$")] = Field(
        description="Name of the workload, of its models and of its data."
    )
    title: str = Field("", description="What people read: the heading of reports and pages.")
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: Gate = Gate()
    serving: Serving = Serving()

    @model_validator(mode="after")
    def _what_has_a_floor_is_measured(self) -> Workload:
        if self.gate.min_robustness_accuracy is None or self.evaluation.robustness:
            return self
        # Stored in the section, not computed by its readers: a step that evaluates depends on this section and not on the
        # gate, so that another floor does not evaluate again.
        self.__dict__["evaluation"] = self.evaluation.model_copy(update={"robustness": True})
        return self

    @model_validator(mode="after")
    def _floors_are_for_metrics_that_are_measured(self) -> Workload:
        names = self.evaluation.metric_names
        if unknown := next((name for name in self.gate.min_metrics if name not in names), None):
            raise ValueError(
                f"gate.min_metrics has a floor for {unknown!r}, which evaluation.metrics does not measure:"
                f" {nearest(unknown, names)}"
            )
        return self
