"""The judge of a step, its statistics, and how steps and states are written."""

from __future__ import annotations

import inspect
import math
import random
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_mlops.cli.rollout import start
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import LATENCY_BOUNDS_MS, Counts
from vision_mlops.rollout.judge import Judgement, Latency, Observation, StepVerdict, judge
from vision_mlops.rollout.observer import Observer
from vision_mlops.rollout.probes import Pairs
from vision_mlops.rollout.rollout_settings import (
    DEFAULT_STEPS,
    Pace,
    RolloutLimits,
    RolloutOptions,
    RolloutStep,
    parse_steps,
    write_steps,
)
from vision_mlops.rollout.rollout_state import TAG_LENGTH, Order, Phase, Rollout, pack, unpack
from vision_mlops.rollout.statistics import LatencySample, chance, exceeds, surely_slower

LIMITS = RolloutLimits()


def noisy(milliseconds: float, size: int, seed: int) -> LatencySample:
    """Latencies as a shared machine gives them: most near the usual one, a tail far above."""
    draw = random.Random(seed)
    tail = [draw.expovariate(1 / (2 * milliseconds)) if draw.random() < 0.08 else 0.0 for _ in range(size)]
    return LatencySample.of([milliseconds * draw.uniform(0.9, 1.2) + late for late in tail])


def seen(requests: int = 200, errors: int = 0, **changes: Any) -> Observation:
    slow = changes.pop("candidate_ms", 10.0)
    seed = changes.pop("seed", 0)
    latencies = (Latency("work", noisy(slow, requests, seed), noisy(10.0, requests, seed + 1)),) if requests else ()
    usual = Observation(60, Counts(requests, errors), Counts(requests, 0), requests, requests, 0, latencies)
    return replace(usual, **changes)


def verdict(observation: Observation, limits: RolloutLimits = LIMITS) -> StepVerdict:
    return judge(observation, limits).verdict


# The judge


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_a_good_candidate_never_fails_on_a_noisy_machine(seed: int) -> None:
    looks = [verdict(seen(requests, seed=seed)) for requests in range(1, 240, 14)]
    assert StepVerdict.FAIL not in looks
    assert looks[-1] is StepVerdict.CONTINUE or verdict(seen(600, seed=seed)) is StepVerdict.CONTINUE


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_twice_as_slow_never_passes(seed: int) -> None:
    looks = [verdict(seen(requests, seed=seed, candidate_ms=20.0)) for requests in range(1, 240, 14)]
    assert StepVerdict.CONTINUE not in looks
    assert StepVerdict.FAIL in looks[:10]


@pytest.mark.parametrize("seed", range(10))
def test_every_tenth_failing_never_passes(seed: int) -> None:
    draw, errors, verdicts = random.Random(seed), 0, []
    for requests in range(1, 200):
        errors += draw.random() < 0.1
        verdicts.append(verdict(seen(requests, errors, latencies=())))
    assert StepVerdict.FAIL in verdicts[:150]
    assert StepVerdict.CONTINUE not in verdicts[: verdicts.index(StepVerdict.FAIL)]


def test_a_single_error_among_few_requests_is_not_known_to_be_too_many() -> None:
    assert verdict(seen(20, 1)) is StepVerdict.WAIT
    assert verdict(seen(20, 10)) is StepVerdict.FAIL
    assert verdict(seen(120, 2)) is StepVerdict.WAIT  # above one percent, by how much is open
    assert verdict(seen(300, 2)) is StepVerdict.CONTINUE
    assert verdict(seen(500, 7)) is StepVerdict.FAIL  # still above after five times the requests


def test_an_outage_of_both_is_not_held_against_the_candidate() -> None:
    assert verdict(seen(200, 40, champion=Counts(200, 40))) is StepVerdict.CONTINUE
    assert verdict(seen(200, 40)) is StepVerdict.FAIL


def test_disagreement() -> None:
    assert verdict(seen(disagreed=200)) is StepVerdict.FAIL
    assert verdict(seen(disagreed=10)) is StepVerdict.CONTINUE
    assert verdict(seen(disagreed=24)) is StepVerdict.WAIT
    # Three golden images, sent again and again, of which two change places: too few to know, enough in the end.
    assert verdict(seen(20, compared=3, disagreed=2)) is StepVerdict.WAIT
    assert verdict(seen(250, compared=3, disagreed=2)) is StepVerdict.FAIL
    assert verdict(seen(20, compared=12, disagreed=8)) is StepVerdict.FAIL


def test_nothing_is_passed_without_requests_pairs_and_time() -> None:
    assert judge(seen(40), LIMITS).reasons[0] == "40 of 100 requests"
    assert verdict(seen(pairs=0)) is StepVerdict.WAIT
    assert verdict(seen(seconds=3)) is StepVerdict.WAIT
    assert (
        judge(seen(0, seconds=3, note="the candidate answered 401"), LIMITS).reasons[-1] == "the candidate answered 401"
    )


def test_time_runs_out() -> None:
    found = judge(seen(40, seconds=900), LIMITS)
    assert found.verdict is StepVerdict.FAIL
    assert found.reasons[0] == "the step was not passed within 900 s"
    assert verdict(seen(seconds=900)) is StepVerdict.CONTINUE


def test_a_problem_fails_at_once() -> None:
    assert judge(seen(0, problem="version-2 is failed"), LIMITS) == Judgement(
        StepVerdict.FAIL, ("version-2 is failed",)
    )


def test_noise_of_a_millisecond_on_a_fast_model_does_not_count() -> None:
    fast, slower = LatencySample.of([1.0] * 200), LatencySample.of([2.4] * 200)
    assert verdict(seen(latencies=(Latency("work", slower, fast),))) is StepVerdict.CONTINUE
    strict = replace(LIMITS, latency_allowance_ms=0.1)
    assert verdict(seen(latencies=(Latency("work", slower, fast),)), strict) is StepVerdict.FAIL


def test_live_latency_counts_once_there_is_enough_of_it() -> None:
    def live(slow: list[int], fast: list[int]) -> Latency:
        """Ten requests in each interval, of 30 ms each or of 10."""
        kinds = {milliseconds: [0] * (len(LATENCY_BOUNDS_MS) + 1) for milliseconds in (10, 30)}
        for milliseconds, counts in kinds.items():
            counts[sum(bound < milliseconds for bound in LATENCY_BOUNDS_MS)] = 10
        middle = len(slow) // 2
        whole, *halves = (
            tuple(LatencySample.of_buckets([kinds[item] for item in blocks[part]]) for blocks in (slow, fast))
            for part in (slice(None), slice(middle), slice(middle, None))
        )
        return Latency("live traffic", whole[0], whole[1], waits=True, halves=tuple((a, b) for a, b in halves))

    fast = [10] * 40
    assert verdict(seen(latencies=(live([30] * 2, fast[:2]),))) is StepVerdict.CONTINUE
    found = judge(seen(latencies=(live([30] * 20, fast[:20]),)), LIMITS)
    assert found.verdict is StepVerdict.WAIT
    assert found.reasons[0].startswith("inconclusive, because requests wait for each other; observing longer")
    assert verdict(seen(latencies=(live([30] * 40, fast),))) is StepVerdict.FAIL
    assert verdict(seen(latencies=(live([30, 10] * 20, fast),))) is StepVerdict.FAIL
    # All that is slow came at once: the machine may have been busy just then.
    assert verdict(seen(latencies=(live([30] * 12 + [10] * 28, fast),))) is StepVerdict.CONTINUE
    # Both were slow at the same time.
    assert verdict(seen(latencies=(live([30, 10] * 20, [30, 10] * 20),))) is StepVerdict.CONTINUE


@pytest.mark.parametrize("earlier", [True, False])
def test_a_slow_spell_is_not_the_version(earlier: bool) -> None:
    def latency(slow: LatencySample, fast: LatencySample) -> Latency:
        return Latency(
            "work", slow, fast, halves=((slow, fast), (fast, fast)) if earlier else ((fast, fast), (slow, fast))
        )

    assert verdict(seen(latencies=(latency(noisy(20, 100, 1), noisy(10, 100, 2)),))) is StepVerdict.WAIT


observations = st.builds(
    lambda requests, errors, disagreed, scale, seconds: seen(
        requests, min(errors, requests), disagreed=min(disagreed, requests), candidate_ms=scale, seconds=seconds
    ),
    st.integers(0, 300),
    st.integers(0, 30),
    st.integers(0, 60),
    st.floats(1, 40),
    st.floats(0, 1000),
)


@settings(max_examples=25, deadline=None)
@given(observations)
def test_whatever_is_seen_is_judged_with_reasons(observation: Observation) -> None:
    found = judge(observation, LIMITS)
    assert found.reasons
    assert found == judge(observation, LIMITS)
    if found.verdict is StepVerdict.CONTINUE:
        assert observation.candidate.requests >= LIMITS.min_requests
        assert observation.candidate.error_rate <= LIMITS.max_error_rate
        assert observation.disagreement <= LIMITS.max_disagreement
    if observation.seconds >= LIMITS.step_timeout:
        assert found.verdict is not StepVerdict.WAIT


@settings(max_examples=25, deadline=None)
@given(observations, st.integers(1, 20))
def test_more_errors_never_make_it_better(observation: Observation, more: int) -> None:
    order = [StepVerdict.CONTINUE, StepVerdict.WAIT, StepVerdict.FAIL]
    mine = observation.candidate
    worse = replace(observation, candidate=Counts(mine.requests, min(mine.requests, mine.errors + more)))
    assert order.index(verdict(worse)) >= order.index(verdict(observation))


# Statistics


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.001, 0.999))
def test_the_tail_of_a_binomial(trials: int, hits: int, rate: float) -> None:
    hits = min(hits, trials)
    exact = math.fsum(
        math.comb(trials, count) * rate**count * (1 - rate) ** (trials - count) for count in range(hits, trials + 1)
    )
    assert chance(hits, trials, rate) == pytest.approx(exact, abs=1e-9)


def test_limits_of_nothing_and_all() -> None:
    assert exceeds(1, 1000, 0.0)
    assert not exceeds(0, 1000, 0.0)
    assert not exceeds(1000, 1000, 1.0)


def test_quantiles_of_samples_and_buckets() -> None:
    sample = LatencySample.of(range(1, 101))
    assert (sample.quantile(0.5), sample.quantile(0.95), sample.quantile(1.0)) == (50, 95, 100)
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    counts[3], counts[-1] = 10, 1
    assert LatencySample.of_buckets([counts] * 2).quantile(0.5) == LATENCY_BOUNDS_MS[3]
    assert LatencySample.of_buckets([counts] * 2).quantile(1.0) > LATENCY_BOUNDS_MS[-1]
    assert LatencySample.of_buckets([]).size == 0
    assert math.isnan(LatencySample.of([]).quantile(0.5))


def test_a_difference_within_the_noise_is_not_sure() -> None:
    assert not surely_slower(noisy(10, 30, 1), noisy(10, 30, 2), 0.95, 1.0, 0.0)
    assert surely_slower(noisy(20, 30, 1), noisy(10, 30, 2), 0.5, 1.5, 0.0)


# What the target has counted


def counted(requests: int, **changes: Any) -> dict[str, Counts]:
    latencies = (requests, *(0,) * len(LATENCY_BOUNDS_MS))
    return {"new": Counts(requests, latencies=latencies, **changes), "old": Counts(2 * requests)}


def test_probes_are_not_counted_twice_and_a_restart_loses_nothing() -> None:
    pairs = Pairs(candidate=Counts(5, 0), champion=Counts(5, 0), scored=5, seen={0: False, 1: True})
    observer = Observer(RolloutStep(10), "new", "old", counted(100), 0.0)
    assert observer.see(counted(130, compared=4, disagreed=1), pairs).candidate == Counts(30, 0)
    found = observer.see(counted(20), pairs)  # smaller than before: it began anew
    assert (found.candidate, found.champion) == (Counts(50, 0), Counts(100, 0))
    assert (found.compared, found.disagreed) == (2 + 4, 1 + 1)
    assert found.latencies[-1].candidate.size == 50
    for _ in range(250):
        found = observer.see(counted(20), pairs)
    assert found.latencies[-1].candidate.size == 50
    assert len(found.latencies[-1].candidate.blocks) <= 240
    unheard = replace(pairs, candidate=Counts(70, 7))  # what the target could not hand on, it has not counted
    assert observer.see(counted(20), unheard).candidate == Counts(70, 7)


def test_live_latency_is_not_compared_where_the_candidate_has_more_to_do() -> None:
    pairs = Pairs(round_trips=[(1.0, 1.0)], work=[(1.0, 1.0)])
    for share, whats in (
        (50, ["scoring time of a probe", "round trip of a probe", "live traffic"]),
        (0, ["scoring time of a probe"]),
        (100, ["scoring time of a probe"]),
    ):
        found = Observer(RolloutStep(share), "new", "old", counted(0), 0.0).see(counted(10), pairs)
        assert [item.what for item in found.latencies] == whats


# Steps and states


def test_the_options_of_the_command_have_the_same_defaults() -> None:
    given = {name: item.default for name, item in inspect.signature(start).parameters.items()}
    given["latency_allowance_ms"] = given.pop("latency_allowance")
    for name, value in asdict(RolloutLimits()).items():
        assert given[name] == value
    assert (given["steps"], given["probe_rate"]) == (DEFAULT_STEPS, Pace().probe_rate)


def test_steps_are_read_and_written() -> None:
    assert parse_steps(DEFAULT_STEPS) == (RolloutStep(0, 50), RolloutStep(10), RolloutStep(50), RolloutStep(100))
    assert parse_steps("mirror=0, 25%, 100") == (RolloutStep(0, 0), RolloutStep(25), RolloutStep(100))
    assert write_steps(parse_steps(DEFAULT_STEPS)) == DEFAULT_STEPS
    assert RolloutStep(10).traffic("new", "old") == ({"old": 90, "new": 10}, {})
    assert RolloutStep(100).traffic("new", "old") == ({"new": 100}, {})
    assert RolloutStep(0, 50).traffic("new", "old") == ({"old": 100}, {"new": 50})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither mirror=PERCENT nor a share"),
        ("ten,100", "'ten' is neither"),
        ("0,100", "a share cannot be 0"),
        ("120", "more than 100"),
        ("mirror=101,100", "more than 100"),
        ("50,10,100", "must increase"),
        ("10,10,100", "must increase"),
        ("10,mirror=50,100", "must increase"),
        ("mirror=10,mirror=50,100", "only the first step can send copies"),
        ("10,50", "the last step must be 100"),
    ],
)
def test_wrong_steps_are_refused(text: str, message: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        parse_steps(text)
    assert message in str(caught.value)


names = st.from_regex(r"[a-z][a-z0-9-]{1,10}[a-z0-9]", fullmatch=True)
limits = st.builds(
    RolloutLimits, st.sampled_from([100, 20]), st.sampled_from([0.01, 0.05]), st.sampled_from([1.5, 2.0]), st.just(1.0),
    st.sampled_from([0.1, 1.0]), st.just(900.0), st.sampled_from([10.0, 0.0]),
)  # fmt: skip


@given(
    st.builds(
        Rollout, names | st.just("version-7"), names, st.just("textile:7"), st.integers(0, 2**33),
        st.sampled_from([parse_steps(DEFAULT_STEPS), parse_steps("mirror=0,100,"[:-1])]), limits,
        st.builds(RolloutOptions, *[st.booleans()] * 4), st.sampled_from(Phase), st.integers(0, 1), st.just("abc123"),
        st.integers(0, 2**33), st.none() | st.sampled_from(Order), st.booleans(),
    )
)  # fmt: skip
def test_a_state_survives_its_tag(state: Rollout) -> None:
    text = pack(state)
    assert len(text) <= TAG_LENGTH
    assert unpack(text) == state


def test_the_longest_names_fit_with_defaults_and_more_is_refused() -> None:
    state = Rollout("c" * 32, "b" * 32, f"{'m' * 63}:123456", 1764107720).at(Phase.STEP, 3).driven(60)
    assert len(pack(replace(state, order=Order.PROMOTE))) <= TAG_LENGTH
    changed = RolloutLimits(123, 0.02, 1.75, 2.5, 0.15, 1200, 30)
    with pytest.raises(DeploymentError, match="a tag can have only 256"):
        pack(replace(state, limits=changed, steps=parse_steps("mirror=10,20,30,40,100")))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"m":"a:1","b":"c","p":"step","a":1,"i":9}', '{"m":1}'])
def test_a_tag_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(DeploymentError, match="does not have the state of a rollout"):
        unpack(text)
