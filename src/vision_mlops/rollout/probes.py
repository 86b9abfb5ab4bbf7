"""Probes: images that are sent to candidate and champion in pairs, so that a rollout needs no other traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vision_mlops.endpoints.contract import Access, Counts
from vision_mlops.endpoints.scoring_client import ScoringResponse, score
from vision_mlops.rollout.judge import Latency
from vision_mlops.rollout.probe_images import ProbeImage
from vision_mlops.rollout.rollout_settings import Pace
from vision_mlops.rollout.statistics import LatencySample

Ask = Callable[[Access, bytes, str, str], ScoringResponse]
"""Sends an image of a media type to a deployment; see :func:`vision_mlops.endpoints.scoring_client.score`."""
_TIMEOUT_SECONDS = 10.0
_MOST = 1000
"""Number of the last pairs that are kept to compare latencies: more would take longer to evaluate, and add nothing."""
_UNAUTHORISED = frozenset({401, 403})
_SERVER_FAULT = 500


def ask(access: Access, image: bytes, kind: str, deployment: str) -> ScoringResponse:
    """Send an image to a deployment over HTTP."""
    return score(access, image, kind, deployment, timeout_s=_TIMEOUT_SECONDS)


@dataclass(slots=True)
class Pairs:
    """The results of the pairs so far. Latencies are in milliseconds, of pairs in which both have scored the image."""

    candidate: Counts = field(default_factory=Counts)
    champion: Counts = field(default_factory=Counts)
    scored: int = 0
    seen: dict[int, bool] = field(default_factory=dict)
    """By image: whether the candidate ever gave another label than the champion."""
    round_trips: list[tuple[float, float]] = field(default_factory=list)
    work: list[tuple[float, float]] = field(default_factory=list)
    """The work on an image without waiting, as the server reports it; empty if it does not."""
    note: str = ""
    """Why the last pair that could not be compared was not."""

    def add(self, image: int, candidate: ScoringResponse, champion: ScoringResponse) -> None:
        """Take the responses for one image into account."""
        self.candidate, self.champion = _counted(self.candidate, candidate), _counted(self.champion, champion)
        if champion.ok and (candidate.ok or _refused(candidate)):
            self.scored += 1
            self.seen[image] = self.seen.get(image, False) or candidate.label != champion.label
        if not (candidate.ok and champion.ok):
            who, response = ("candidate", candidate) if not candidate.ok else ("champion", champion)
            self.note = f"the {who} responded to a probe with {response.status or 'nothing'}: {response.problem}"
            return
        self.round_trips.append((candidate.seconds * 1000, champion.seconds * 1000))
        works = [_work(candidate), _work(champion)]
        if works[0] is not None and works[1] is not None:
            self.work.append((works[0], works[1]))
        for kept in (self.round_trips, self.work):
            del kept[:-_MOST]

    def latencies(self, share: int) -> tuple[Latency, ...]:
        """Return what the pairs say about latencies.

        Args:
            share: Percentage of the traffic that the candidate has. With more of it than the champion, a candidate that is
                as fast would look slow by its round trips, and copies are additional load: requests wait for cores. The
                work that servers report is always compared; if they do not report it, round trips are.
        """
        told = bool(self.work)
        found = [_latency("scoring time of a probe", self.work)] if told else []
        if share <= 50 and (share or not told):
            found.append(_latency("round trip of a probe", self.round_trips, waits=told))
        return tuple(found)


class Prober:
    """A thread that sends pairs at a bounded rate until it is told to end: each image to both, in alternating order.

    Args:
        ask: Sends an image.
        access: To the endpoint; :meth:`renew` gives another one.
        images: Images that are sent one after the other, repeatedly.
        candidate: Name of the deployment.
        champion: Name of the deployment.
        pace: Rate, and how many pairs do not count.
    """

    def __init__(
        self, ask: Ask, access: Access, images: Sequence[ProbeImage], candidate: str, champion: str, pace: Pace
    ) -> None:
        self._ask = ask
        self._access = access
        self._images = images
        self._names = (candidate, champion)
        self._pace = pace
        self._pairs = Pairs()
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self.warm = threading.Event()
        """Set once the first pairs, which do not count, are done; then it waits for :meth:`count`."""
        self._counting = threading.Event()
        self.refused = False
        """Whether a response said that the key is not valid, or not any more."""
        self.problem = ""
        """Why it has ended by itself; empty if it has not."""
        # A daemon, as a request that hangs must not delay the end of the process.
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def count(self) -> None:
        """Continue with pairs that count: the counts of the target were read while no pair was in progress."""
        self._counting.set()

    def end(self) -> None:
        """Stop sending; a pair in progress does not count."""
        self._ending.set()
        self._counting.set()

    def renew(self, access: Access) -> None:
        """Continue with another key or address."""
        self._access, self.refused = access, False

    def pairs(self) -> Pairs:
        """Return a copy of the results so far."""
        with self._guard:
            found = self._pairs
            return replace(found, seen=dict(found.seen), round_trips=list(found.round_trips), work=list(found.work))

    def _run(self) -> None:
        number = 0
        following = time.monotonic()
        while not self._ending.is_set():
            if number == self._pace.warm_up:
                self.warm.set()
                self._counting.wait()
            try:
                self._pair(number)
            except Exception as error:  # noqa: BLE001 - reported to the caller
                self.problem = f"probing ended: {type(error).__name__}: {error}"
                return
            number += 1
            # Late ones are not caught up: the rate is a limit, not a goal.
            following = max(following + 1 / self._pace.probe_rate, time.monotonic())
            self._ending.wait(following - time.monotonic())

    def _pair(self, number: int) -> None:
        place = number % len(self._images)
        image = self._images[place]
        content = image.path.read_bytes()
        order = (0, 1) if number % 2 else (1, 0)
        responses: dict[int, ScoringResponse] = {}
        for who in order:
            response = self._ask(self._access, content, image.kind, self._names[who])
            responses[who] = _checked(response, self._names[who])
            if response.status in _UNAUTHORISED:
                self.refused = True
        if number >= self._pace.warm_up and not self._ending.is_set():
            with self._guard:
                self._pairs.add(place, responses[0], responses[1])


def _checked(response: ScoringResponse, wanted: str) -> ScoringResponse:
    """Reject a response of a deployment other than the requested one."""
    if not response.ok or response.deployment == wanted:
        return response
    problem = f"{response.deployment} responded instead of {wanted}"
    return ScoringResponse(response.status, response.seconds, {}, response.deployment, problem)


def _counted(counts: Counts, response: ScoringResponse) -> Counts:
    failed = response.status == 0 or response.status >= _SERVER_FAULT
    return Counts(counts.requests + 1, counts.errors + failed)


def _refused(response: ScoringResponse) -> bool:
    """Tell whether an image was refused as invalid."""
    return response.status in (400, 413, 415, 422)


def _work(response: ScoringResponse) -> float | None:
    timing = response.body.get("timing")
    work = timing.get("work_ms") if isinstance(timing, dict) else None
    return float(work) if isinstance(work, int | float) else None


def _latency(what: str, pairs: list[tuple[float, float]], *, waits: bool = False) -> Latency:
    middle = len(pairs) // 2
    return Latency(what, *_samples(pairs), waits, (_samples(pairs[:middle]), _samples(pairs[middle:])))


def _samples(pairs: Sequence[tuple[float, float]]) -> tuple[LatencySample, LatencySample]:
    return LatencySample.of([pair[0] for pair in pairs]), LatencySample.of([pair[1] for pair in pairs])
