"""Models of a sweep: the search space, how it is sampled, and when a trial is stopped."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from vision_mlops.jobs.definitions.models.base_model import (
    BY_TYPE,
    DefinitionModel,
    Free,
    Number,
    QueueSettings,
    Resources,
    Whole,
    one_or_mapping,
    problem,
)

PositiveInt = Annotated[Whole, Field(ge=1)]


def _choice(value: Any) -> Any:
    if isinstance(value, bool) or value is None:  # the SDK accepts strings, numbers and mappings
        text = "null" if value is None else str(value).lower()
        raise problem(f"{text} cannot be one of the values", f'quote it: "{text}"')
    return value


class Choice(DefinitionModel):
    """One of a list of values."""

    type: Literal["choice"]
    values: Annotated[list[Annotated[Any, BeforeValidator(_choice)]], Field(min_length=1)]


class _Range(DefinitionModel):
    min_value: Number
    max_value: Number

    @model_validator(mode="after")
    def _is_ordered(self) -> _Range:
        if self.min_value >= self.max_value:
            message = f"min_value {self.min_value:g} is not below max_value {self.max_value:g}"
            raise problem(message, "swap them")
        return self


class Uniform(_Range):
    """A number between two bounds; ``loguniform`` takes the exponents as bounds."""

    type: Literal["uniform", "loguniform"]


class QUniform(_Range):
    """A number between two bounds, in steps of q."""

    type: Literal["quniform", "qloguniform"]
    q: Annotated[Number, Field(gt=0)]


class _Bell(DefinitionModel):
    mu: Number
    sigma: Annotated[Number, Field(gt=0)]


class Normal(_Bell):
    """A normally distributed number, or the exponent of one."""

    type: Literal["normal", "lognormal"]


class QNormal(_Bell):
    """A normally distributed number, or the exponent of one, in steps of q."""

    type: Literal["qnormal", "qlognormal"]
    q: Annotated[Number, Field(gt=0)]


class RandInt(DefinitionModel):
    """A whole number from 0 up to, not including, ``upper``."""

    type: Literal["randint"]
    upper: PositiveInt


Distributions = Annotated[
    Choice | Uniform | QUniform | Normal | QNormal | RandInt, Field(discriminator="type"), BY_TYPE
]


class Objective(DefinitionModel):
    """The logged metric that decides which trial is best."""

    goal: Literal["maximize", "minimize"]
    primary_metric: Annotated[str, Field(min_length=1)]


class SweepLimits(DefinitionModel):
    """How many trials, at once and in all, and for how long (seconds)."""

    max_total_trials: PositiveInt
    max_concurrent_trials: PositiveInt | None = None
    timeout: PositiveInt | None = None
    trial_timeout: PositiveInt | None = None


class Sampling(DefinitionModel):
    """A sampling algorithm with options of its own."""

    type: Literal["random", "bayesian", "grid"]
    seed: Whole | None = None
    rule: Literal["random", "sobol"] | None = None
    logbase: int | float | str | None = None

    @model_validator(mode="after")
    def _options_belong_to_random(self) -> Sampling:
        given = [name for name in ("seed", "rule", "logbase") if getattr(self, name) is not None]
        if self.type != "random" and given:
            raise problem(f"{self.type} sampling accepts no {given[0]}", "remove it, or use type: random")
        return self


SamplingChoice = Annotated[
    Annotated[Sampling, Tag("<mapping>")] | Annotated[Literal["random", "bayesian", "grid"], Tag("<text>")],
    Discriminator(one_or_mapping),
]


class _Policy(DefinitionModel):
    evaluation_interval: Annotated[Whole, Field(ge=1)] = 1
    delay_evaluation: Annotated[Whole, Field(ge=0)] = 0


class Bandit(_Policy):
    """Stops a trial that is further from the best one than a slack."""

    type: Literal["bandit"]
    slack_factor: Annotated[Number, Field(gt=0)] | None = None
    slack_amount: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _has_one_slack(self) -> Bandit:
        if (self.slack_factor is None) == (self.slack_amount is None):
            number = "neither" if self.slack_factor is None else "both"
            message = f"the bandit policy has {number} of slack_factor and slack_amount"
            raise problem(message, "give exactly one, for example `slack_factor: 0.1`")
        return self


class MedianStopping(_Policy):
    """Stops a trial whose best result is below the median of the running averages."""

    type: Literal["median_stopping"]


class Truncation(_Policy):
    """Stops the worst share of the trials at each evaluation."""

    type: Literal["truncation_selection"]
    truncation_percentage: Annotated[Whole, Field(ge=1, le=99)]


EarlyTermination = Annotated[Bandit | MedianStopping | Truncation, Field(discriminator="type"), BY_TYPE]


class Sweep(DefinitionModel):
    """What sweep jobs and sweep steps have in common; ``trial`` is resolved by the linter."""

    trial: str | Free
    search_space: Annotated[dict[str, Distributions], Field(min_length=1)]
    sampling_algorithm: SamplingChoice = "random"
    objective: Objective
    limits: SweepLimits
    early_termination: EarlyTermination | None = None
    resources: Resources | None = None
    queue_settings: QueueSettings | None = None

    @property
    def sampling(self) -> str:
        """Name of the sampling algorithm."""
        return (
            self.sampling_algorithm.type if isinstance(self.sampling_algorithm, Sampling) else self.sampling_algorithm
        )
