"""Which of the kept predictions a caller requests, and in which pages."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from azureml_emulator.custom_vision.vision_calls import id_of, word_of
from azureml_emulator.custom_vision.vision_refusals import bad_request
from azureml_emulator.rest.rest_calls import Json

_PAGE = 100


@dataclass(frozen=True)
class PredictionQuery:
    """A query; empty values select everything.

    Attributes:
        token: Token that the caller has sent.
        order: ``Newest`` or ``Oldest``.
        start: Number of predictions before the page.
        size: Number of predictions on a page.
        tags: Lowest and highest probability by the id of a tag.
        iteration: Iteration that made the prediction.
        application: Application that requested the prediction.
        earliest: Earliest time of the prediction.
        latest: Latest time of the prediction.
    """

    token: Json
    order: str
    start: int
    size: int
    tags: dict[str, tuple[float, float]]
    iteration: str
    application: str
    earliest: datetime | None
    latest: datetime | None

    @classmethod
    def of(cls, token: Json) -> PredictionQuery:
        """Return the query of a call. Raises ServiceRefusalError."""
        order = word_of(token.get("orderBy") or "Newest", "orderBy", ("Newest", "Oldest", "Suggested"))
        if order == "Suggested":
            raise bad_request("NotSupported", "The order Suggested is not emulated.")
        iteration = token.get("iterationId")
        try:
            return cls(
                token, order, _count(token.get("continuation") or 0), _count(token.get("maxCount") or _PAGE),
                {
                    id_of(tag["id"], "tags"): (float(tag.get("minThreshold") or 0), float(tag.get("maxThreshold") or 1))
                    for tag in token.get("tags") or []
                },
                id_of(iteration, "iterationId") if iteration else "", str(token.get("application") or ""),
                _time(token.get("startTime")), _time(token.get("endTime")),
            )  # fmt: skip
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise bad_request("PredictionInvalidQueryParameters", f"The query is not valid: {error}.") from error

    def fits(self, row: sqlite3.Row) -> bool:
        """Return whether a prediction matches."""
        said = {item["tagId"]: item["probability"] for item in json.loads(row["results"])}
        made = datetime.fromisoformat(row["created"])
        return (
            all(lowest <= said.get(tag, -1) <= highest for tag, (lowest, highest) in self.tags.items())
            and self.iteration in ("", row["iteration"])
            and self.application in ("", row["application"])
            and (self.earliest is None or self.earliest <= made)
            and (self.latest is None or made <= self.latest)
        )

    def page(self, rows: list[sqlite3.Row]) -> tuple[list[sqlite3.Row], Json]:
        """Return the predictions that match, in order, and the token for the next page."""
        fitting = [row for row in rows if self.fits(row)]
        end = self.start + self.size
        more = str(end) if end < len(fitting) else ""
        empty: Json = {"tags": [], "iterationId": None, "startTime": None, "endTime": None, "application": ""}
        known = {"session": "0", "continuation": more, "maxCount": self.size, "orderBy": self.order}
        return fitting[self.start : end], {**empty, **self.token, **known}


def _count(value: object) -> int:
    if not str(value).isdecimal():
        raise ValueError(f"{value!r} is not a whole number from 0 on")
    return int(str(value))


def _time(text: object) -> datetime | None:
    if not text:
        return None
    found = datetime.fromisoformat(str(text))
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return found
