"""The description of the deployed model, requested from time to time: every figure on the pages comes from it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from vision_mlops.flask_app.app_errors import EndpointError
from vision_mlops.flask_app.scoring_answers import Limits, ModelDescription
from vision_mlops.flask_app.scoring_endpoint import ScoringEndpoint

_FRESH_S = 30.0
_PROBLEM_S = 3.0
_PATIENT_S, _IMPATIENT_S = 5.0, 1.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """The model and the endpoint's limits as last described (None before), and why they are not known now, if so."""

    model: ModelDescription | None = None
    limits: Limits | None = None
    problem: EndpointError | None = None


class DeployedModel:
    """Remembers the description for some seconds, for all threads.

    Args:
        endpoint: Endpoint that gives the description.
    """

    def __init__(self, endpoint: ScoringEndpoint) -> None:
        self._endpoint = endpoint
        self._asking = threading.Lock()
        self._known = Deployed()
        self._asked = float("-inf")

    def get(self, max_age_s: float = _FRESH_S) -> Deployed:
        """Return the description, at most some seconds old; a failure is remembered for a few. Never raises.

        While one thread asks, others take what is known already, where anything is.
        """
        if self._is_fresh(max_age_s):
            return self._known
        nothing_known = self._known.model is None and self._known.problem is None
        if not self._asking.acquire(blocking=nothing_known):
            return self._known
        try:
            if not self._is_fresh(max_age_s):
                self._ask()
            return self._known
        finally:
            self._asking.release()

    def saw(self, model_id: str) -> None:
        """Note the id of a model that responded: another one than is known makes the description stale."""
        known = self._known
        if known.model is None or known.model.id != model_id or known.problem is not None:
            self._known = Deployed(known.model, known.limits)
            self._asked = float("-inf")

    def _is_fresh(self, max_age_s: float) -> bool:
        age = time.monotonic() - self._asked
        return age < (min(max_age_s, _PROBLEM_S) if self._known.problem else max_age_s)

    def _ask(self) -> None:
        try:
            # An endpoint that was too slow does not hold up each page for as long.
            slow = self._known.problem is not None and self._known.problem.code == "endpoint_slow"
            answer = self._endpoint.describe(_IMPATIENT_S if slow else _PATIENT_S)
        except EndpointError as error:
            self._known = Deployed(self._known.model, self._known.limits, error)
        else:
            self._known = Deployed(answer.model, answer.limits)
        self._asked = time.monotonic()
