"""Tags of a component that say what the result of its step depends on, for which Azure ML has no key.

``mlops.command: COMMAND, COMMAND`` names the commands of ``mlops`` that the step runs, ``mlops.reads.INPUT: SECTION,
SECTION`` the parts of the settings in an input that it reads, and ``mlops.state: KIND`` a state outside of the job.
``mlops.keeps: OUTPUT`` names outputs that the next attempt at the step finds as an interrupted one left them, as it does on
Azure after a node was preempted.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMAND = "mlops.command"
STATE = "mlops.state"
READS = "mlops.reads."
KEEPS = "mlops.keeps"


def sections_read(tags: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Return the sections that are read of each input. An input that no tag names is read as a whole."""
    return {key.removeprefix(READS): listed(value) for key, value in tags.items() if key.startswith(READS)}


def commands(tags: Mapping[str, object]) -> tuple[str, ...]:
    """Return the commands of ``mlops`` that are run, such as ``data prepare``; empty if the tag is missing."""
    return listed(tags.get(COMMAND, ""))


def outputs_kept(tags: Mapping[str, object]) -> frozenset[str]:
    """Return the outputs that the next attempt finds as the last one left them."""
    return frozenset(listed(tags.get(KEEPS, "")))


def listed(value: object) -> tuple[str, ...]:
    """Split a tag at its commas."""
    words = (" ".join(word.split()) for word in str(value).split(","))
    return tuple(dict.fromkeys(word for word in words if word))
