from __future__ import annotations

import itertools
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.models.sweep import Distributions, Sweep
from vision_mlops.jobs.local.sweep.distributions import value_at
from vision_mlops.jobs.local.sweep.sampling import Sampler

SPACE: dict[str, Any] = {
    "lr": {"type": "loguniform", "min_value": -7, "max_value": -2},
    "batch": {"type": "choice", "values": [16, 32, 64]},
    "width": {"type": "quniform", "min_value": 8, "max_value": 64, "q": 8},
}


def sweep(
    algorithm: Any = "random", space: dict[str, Any] | None = None, goal: Literal["maximize", "minimize"] = "minimize"
) -> Sweep:
    return Sweep.model_validate(
        {
            "trial": "file:./trial.yml",
            "search_space": SPACE if space is None else space,
            "sampling_algorithm": algorithm,
            "objective": {"goal": goal, "primary_metric": "loss"},
            "limits": {"max_total_trials": 9},
        }
    )


DISTRIBUTIONS: TypeAdapter[Distributions] = TypeAdapter(Distributions)


def space(**options: Any) -> Distributions:
    return DISTRIBUTIONS.validate_python(options)


def spread(**options: Any) -> list[Any]:
    """Values at 2000 positions in equal distances."""
    distribution = space(**options)
    return [value_at(distribution, (i + 0.5) / 2000) for i in range(2000)]


def drawn(sampler: Sampler, count: int) -> list[dict[str, Any]]:
    """Values of the next trials, each told a loss."""
    found = []
    for _ in range(count):
        asked = sampler.ask()
        assert asked is not None
        number, values = asked
        sampler.tell(number, abs(math.log(values["lr"]) + 4) if "lr" in values else 0.0, "Completed")
        found.append(values)
    return found


POSITIONS = st.floats(0, 1)


@given(low=st.floats(-1e3, 1e3), width=st.floats(0.001, 1e3), at=POSITIONS)
def test_uniform_values_are_within_their_bounds(low: float, width: float, at: float) -> None:
    high = low + width
    assume(low < high)
    assert low <= value_at(space(type="uniform", min_value=low, max_value=high), at) <= high
    if max(abs(low), abs(high)) <= 500:
        value = value_at(space(type="loguniform", min_value=low, max_value=high), at)
        assert math.exp(low) <= value <= math.exp(high)


@given(low=st.integers(-50, 50), width=st.integers(1, 100), q=st.integers(1, 20), at=POSITIONS)
def test_quantised_values_are_multiples_within_their_bounds(low: int, width: int, q: int, at: float) -> None:
    value = value_at(space(type="quniform", min_value=low, max_value=low + width, q=q), at)
    assert isinstance(value, int)
    assert value % q == 0
    if any(number % q == 0 for number in range(low, low + width + 1)):
        assert low <= value <= low + width
    value = value_at(space(type="qloguniform", min_value=low / 20, max_value=(low + width) / 20, q=q), at)
    assert value % q == 0
    bounds = math.exp(low / 20), math.exp((low + width) / 20)
    if any(number % q == 0 for number in range(math.ceil(bounds[0]), math.floor(bounds[1]) + 1)):
        assert bounds[0] <= value <= bounds[1]


@given(upper=st.integers(1, 1000), at=POSITIONS)
def test_randint_is_below_its_bound(upper: int, at: float) -> None:
    value = value_at(space(type="randint", upper=upper), at)
    assert isinstance(value, int)
    assert 0 <= value < upper


@given(values=st.lists(st.one_of(st.integers(), st.text(), st.lists(st.integers())), min_size=1), at=POSITIONS)
def test_choice_is_one_of_its_values(values: list[Any], at: float) -> None:
    assert value_at(space(type="choice", values=values), at) in values


@given(mu=st.floats(-50, 50), sigma=st.floats(0.01, 5), at=POSITIONS)
def test_normal_values_are_finite(mu: float, sigma: float, at: float) -> None:
    assert abs(value_at(space(type="normal", mu=mu, sigma=sigma), at) - mu) < 7.2 * sigma
    assert 0 < value_at(space(type="lognormal", mu=mu, sigma=sigma), at) < math.inf
    assert value_at(space(type="qnormal", mu=mu, sigma=sigma, q=2), at) % 2 == 0
    assert value_at(space(type="qlognormal", mu=mu, sigma=sigma, q=2), at) % 2 == 0


def test_even_positions_follow_the_distribution() -> None:
    normal = spread(type="normal", mu=10, sigma=3)
    assert fmean(normal) == pytest.approx(10)
    assert stdev(normal) == pytest.approx(3, rel=0.01)
    lognormal = spread(type="lognormal", mu=1, sigma=0.5)
    assert median(lognormal) == pytest.approx(math.e, rel=0.01)
    loguniform = spread(type="loguniform", min_value=-4, max_value=0)
    assert median(loguniform) == pytest.approx(math.exp(-2), rel=0.01)
    randint = spread(type="randint", upper=4)
    assert [randint.count(value) for value in range(4)] == [500] * 4
    # round(uniform / q) * q gives the outer values half as often.
    quniform = spread(type="quniform", min_value=0, max_value=4, q=2)
    assert [quniform.count(value) for value in (0, 2, 4)] == [500, 1000, 500]


def test_steps_smaller_than_one_have_no_tails() -> None:
    found = set(spread(type="quniform", min_value=0, max_value=1, q=0.1))
    assert sorted(found) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_logbase_is_the_base_of_the_exponents(tmp_path: Path) -> None:
    given = {"lr": {"type": "loguniform", "min_value": -4, "max_value": -1}}
    values = drawn(Sampler(sweep({"type": "random", "logbase": 10}, given), tmp_path / "a"), 30)
    assert all(1e-4 <= item["lr"] <= 1e-1 for item in values)
    assert min(item["lr"] for item in values) < math.exp(-4)


@pytest.mark.parametrize("algorithm", ["random", {"type": "random", "rule": "sobol"}, "bayesian"])
def test_seeded_draws_repeat_and_go_on_after_an_interruption(tmp_path: Path, algorithm: Any) -> None:
    whole = drawn(Sampler(sweep(algorithm), tmp_path / "a", seed=5), 14)
    drawn(Sampler(sweep(algorithm), tmp_path / "b", seed=5), 3)
    again = Sampler(sweep(algorithm), tmp_path / "b")  # the file remembers the seed
    drawn(again, 11)
    assert [draw.values for draw in again.draws()] == whole
    assert len({json.dumps(values) for values in whole}) == 14
    other = drawn(Sampler(sweep(algorithm), tmp_path / "c", seed=6), 14)
    assert not any(values in whole for values in other)


def test_seed_of_the_definition_counts(tmp_path: Path) -> None:
    algorithm = {"type": "random", "seed": 5}
    first = drawn(Sampler(sweep(algorithm), tmp_path / "a", seed=1), 3)
    assert drawn(Sampler(sweep(algorithm), tmp_path / "b", seed=2), 3) == first
    assert drawn(Sampler(sweep(), tmp_path / "c"), 3) != drawn(Sampler(sweep(), tmp_path / "d"), 3)


def test_sobol_covers_the_space_evenly(tmp_path: Path) -> None:
    """Of 16 points of a Sobol sequence, each sixteenth of every axis holds one."""
    given = {name: {"type": "uniform", "min_value": 0, "max_value": 16} for name in ("a", "b")}
    values = drawn(Sampler(sweep({"type": "random", "rule": "sobol", "seed": 1}, given), tmp_path / "s"), 16)
    for name in given:
        assert sorted(int(item[name]) for item in values) == list(range(16))


def test_grid_draws_every_combination_once(tmp_path: Path) -> None:
    given = {"a": {"type": "choice", "values": [1, "two", [3]]}, "b": {"type": "choice", "values": ["true", 2.5]}}
    sampler = Sampler(sweep("grid", given), tmp_path / "g")
    expected = [{"a": a, "b": b} for a, b in itertools.product([1, "two", [3]], ["true", 2.5])]
    assert drawn(sampler, 4) == expected[:4]
    sampler = Sampler(sweep("grid", given), tmp_path / "g")
    assert drawn(sampler, 2) == expected[4:]
    assert sampler.ask() is None
    with pytest.raises(PipelineError, match="grid sampling cannot draw 'lr' from loguniform"):
        Sampler(sweep("grid"), tmp_path / "h")


def test_bayesian_sampling_learns(tmp_path: Path) -> None:
    """Chance is 1.3 from the best on average; what TPE draws after its first trials is much nearer."""
    values = drawn(Sampler(sweep("bayesian"), tmp_path / "b", seed=0), 40)
    losses = [abs(math.log(item["lr"]) + 4) for item in values]
    assert fmean(losses[20:]) < 0.9


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_early_terminated_trials_guide_the_search(tmp_path: Path, goal: Literal["maximize", "minimize"]) -> None:
    sampler = Sampler(sweep("bayesian", goal=goal), tmp_path / "b", seed=0)
    for i in range(12):
        assert sampler.ask() is not None
        sampler.tell(i, float(i) if i else None, "EarlyTerminated" if i % 2 else "Completed")
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "b")))
    trials = optuna.load_study(study_name="sweep", storage=storage).trials
    assert [trial.state.name for trial in trials[:4]] == ["FAIL", "PRUNED", "COMPLETE", "PRUNED"]
    assert [trial.value for trial in trials[1:4]] == [1.0, 2.0, 3.0]


def test_states_and_records_are_kept(tmp_path: Path) -> None:
    sampler = Sampler(sweep(), tmp_path / "deep" / "t.log")
    for _ in range(5):
        assert sampler.ask() is not None
    sampler.tell(0, 0.5, "Completed", {"seconds": 3})
    sampler.tell(1, None, "Failed")
    sampler.tell(2, None, "Canceled")
    sampler.tell(3, 0.7, "EarlyTerminated")
    found = Sampler(sweep(), tmp_path / "deep" / "t.log").draws()
    assert [(draw.state, draw.value) for draw in found] == [
        ("Completed", 0.5), ("Failed", None), ("Canceled", None), ("EarlyTerminated", 0.7), (None, None),
    ]  # fmt: skip
    assert found[0].record == {"seconds": 3}


def test_unfinished_trial_can_be_told_later(tmp_path: Path) -> None:
    asked = Sampler(sweep(), tmp_path / "t").ask()
    assert asked is not None
    again = Sampler(sweep(), tmp_path / "t")
    assert [(draw.number, draw.values, draw.state) for draw in again.draws()] == [(0, asked[1], None)]
    again.tell(0, 0.5, "Completed")
    assert again.draws()[0].value == 0.5


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_file_of_a_killed_process_is_usable(tmp_path: Path, algorithm: str) -> None:
    """Whatever line a process was killed in, every trial has values, and the next is another one."""
    path = tmp_path / "t"
    drawn(Sampler(sweep(algorithm), path, seed=1), 2)
    lines = path.read_bytes().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if b'"sweep"' in line and b"user_attr" in line)
    for count in range(begun + 1, len(lines)):
        path.write_bytes(b"".join(lines[:count]) + lines[count][:7])
        Path(f"{path}.lock").symlink_to(path)
        sampler = Sampler(sweep(algorithm), path)
        before = sampler.draws()
        assert all(set(draw.values) == set(SPACE) for draw in before)
        asked = sampler.ask()
        assert asked is not None
        assert asked[0] == len(before)
        assert asked[1] not in [draw.values for draw in before]


def test_trials_of_another_sweep_are_refused(tmp_path: Path) -> None:
    drawn(Sampler(sweep(), tmp_path / "t"), 1)
    for other in (sweep("bayesian"), sweep(goal="maximize"), sweep(space={"lr": SPACE["lr"]})):
        with pytest.raises(PipelineError, match="holds the trials of a sweep with another space"):
            Sampler(other, tmp_path / "t")
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(PipelineError, match="contains no trials"):
        Sampler(sweep(), tmp_path / "text")


@pytest.mark.parametrize(
    ("algorithm", "item", "message"),
    [
        (
            "random",
            {"type": "loguniform", "min_value": 1, "max_value": 1000},
            "loguniform takes exponents, and 2.718**1000",
        ),
        ("random", {"type": "lognormal", "mu": 0, "sigma": 200}, "lognormal takes exponents"),
        (
            {"type": "random", "logbase": 10},
            {"type": "qloguniform", "min_value": 0, "max_value": 400, "q": 1},
            "10**400",
        ),
        ({"type": "random", "logbase": "two"}, {"type": "randint", "upper": 3}, "logbase 'two' is not a valid base"),
        ({"type": "random", "logbase": 1}, {"type": "randint", "upper": 3}, "logbase 1 is not a valid base"),
    ],
)
def test_space_that_cannot_be_drawn_from_is_refused(
    tmp_path: Path, algorithm: Any, item: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        Sampler(sweep(algorithm, {"lr": item}), tmp_path / "t")
    assert message in str(caught.value)
    assert not (tmp_path / "t").exists()


def test_optuna_is_quiet_and_loaded_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = f"""
import sys
import vision_mlops.jobs.local.sweep.sampling as sampling
assert "optuna" not in sys.modules and "scipy" not in sys.modules
from vision_mlops.jobs.definitions.models.sweep import Sweep
sampler = sampling.Sampler(Sweep.model_validate({sweep("bayesian").model_dump()!r}), __import__("pathlib").Path("t"))
for _ in range(12):
    number, _ = sampler.ask()
    sampler.tell(number, number / 2, "Completed")
"""
    line = [sys.executable, "-W", "always", "-c", script]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with caplog.at_level(logging.INFO):
        drawn(Sampler(sweep(), tmp_path / "u"), 1)
    assert caplog.records == []
