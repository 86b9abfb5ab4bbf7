"""What a scoring endpoint answers, checked before anything of it is shown: an endpoint may answer anything."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Probability = Annotated[FiniteFloat, Field(ge=0.0, le=1.0 + 1e-6)]
Share = Annotated[FiniteFloat, Field(ge=0.0, le=1.0 + 1e-9)]
Count = Annotated[int, Field(ge=0)]


class _Answer(BaseModel):
    """A later release may say more; what it says more is not shown."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Prediction(_Answer):
    """A class and its probability."""

    label: str
    probability: Probability


class ModelName(_Answer):
    """Which model answered."""

    name: str
    version: str
    id: str


class ScoringAnswer(_Answer):
    """The response for one image; ``heat_map`` is the base64 of a PNG."""

    predictions: Annotated[list[Prediction], Field(min_length=1)]
    heat_map: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None = None
    timing: dict[str, FiniteFloat] = Field(default_factory=dict)
    model: ModelName
    request_id: str


class ClassMetrics(_Answer):
    """Measures of one class; those of a class without test images are None."""

    precision: Share
    recall: Share
    f1: Share
    support: Count
    auc: Share | None = None
    average_precision: Share | None = None


class ConfidenceBin(_Answer):
    """Images of similar confidence: their mean confidence, the share that is right, and how many they are."""

    confidence: Share
    accuracy: Share
    count: Count


class ModelEvaluation(_Answer):
    """What training measured on its test images; rows of the confusion matrix are true classes."""

    split: str
    images: Count
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    macro_f1: Share
    expected_calibration_error: Share
    negative_log_likelihood: FiniteFloat
    brier_score: FiniteFloat
    per_class: dict[str, ClassMetrics]
    confusion_matrix: list[list[Count]]
    reliability: list[ConfidenceBin] = Field(default_factory=list)


class ModelDescription(_Answer):
    """What the deployed bundle says about itself."""

    name: str
    version: str
    id: str
    title: str = ""
    classes: Annotated[list[str], Field(min_length=1)]
    created: str = ""
    backbone: str = ""
    image_size: int | None = None
    resize: str = ""
    data_fingerprint: str = ""
    git_commit: str = ""
    run_id: str = ""
    libraries: dict[str, str] = Field(default_factory=dict)
    quantization: dict[str, Any] | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    evaluation: ModelEvaluation | None = None


class Limits(_Answer):
    """What the endpoint takes in one request."""

    body_bytes: Annotated[int, Field(gt=0)]
    images: Annotated[int, Field(gt=0)]


class DescribeAnswer(_Answer):
    """The response to ``{"describe": true}``."""

    model: ModelDescription
    limits: Limits
