"""The state of a container group, from the states and events in the service's response; why, and how to fix it.

Events from the past of a container, such as a pull that failed at first, do not count once it has started since.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vision_mlops.core.text import counted
from vision_mlops.endpoints.contract import EndpointStatus

if TYPE_CHECKING:
    from azure.mgmt.containerinstance.models import ContainerGroup, Event

_NEVER = datetime.min.replace(tzinfo=UTC)
_REPEATS = 3  # a container that ended, or a pull that failed, so many times will not recover by itself
_STEADY = timedelta(minutes=5)
"""After running for so long, a container is not judged by its past."""
_FOR_GOOD = re.compile(
    r"unauthori[sz]ed|denied|forbidden|\b40[13]\b|not found|manifest unknown|invalid reference", re.I
)
_TERMINAL = ("failed", "succeeded", "terminated")


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The state of a group, as the service sees it; for READY, the server itself must still be asked.

    ``final`` means that waiting does not help; ``since`` is when ``problem`` was last seen.
    """

    state: EndpointStatus
    problem: str = ""
    hint: str = ""
    final: bool = False
    since: datetime = _NEVER


def base_url(group: ContainerGroup) -> str:
    """Return the address of the server, by name if it has one; empty while it has none."""
    address = group.ip_address
    host = address and (address.fqdn or address.ip)
    return f"http://{host}:{address.ports[0].port}" if address and host and address.ports else ""


def view_of(group: ContainerGroup) -> GroupStatus:
    """Return the state of a group."""
    provisioning = str(group.provisioning_state or "").lower()
    running = str(getattr(group.instance_view, "state", None) or "").lower()
    if provisioning == "deleting":
        return GroupStatus(EndpointStatus.CHANGING, "it is being deleted")
    if running == "stopped":
        return GroupStatus(
            EndpointStatus.STOPPED, "it was stopped", "deploy the same version again, which starts it", final=True
        )
    found = _container(group)
    if found is not None:
        return found
    if provisioning in ("failed", "canceled") or is_over(group):
        word = provisioning if provisioning in ("failed", "canceled") else running
        told = _newest(_events(group), lambda item: _is(item, "Warning"))
        reason = f": {_text(told)}" if told else ""
        return GroupStatus(
            EndpointStatus.FAILED,
            f"the container group is {word}{reason}",
            "fix what the message names, then deploy again",
            final=True,
            since=_at(told) if told else _NEVER,
        )
    state = _current(group)
    if provisioning != "succeeded" or str(getattr(state, "state", None) or "").lower() != "running":
        waiting = str(getattr(state, "detail_status", None) or getattr(state, "state", None) or "no container yet")
        return GroupStatus(EndpointStatus.CHANGING, f"the container group is {provisioning or 'unknown'}: {waiting}")
    return GroupStatus(EndpointStatus.READY)


def is_over(group: ContainerGroup) -> bool:
    """Return whether its containers have ended for good: the service accepts no change of such a group."""
    return str(getattr(group.instance_view, "state", None) or "").lower() in _TERMINAL


def started_at(group: ContainerGroup) -> datetime:
    """Return when the current container was started; the earliest date if that is not known."""
    moment = getattr(_current(group), "start_time", None)
    return moment if isinstance(moment, datetime) else _NEVER


def probe_failure(group: ContainerGroup) -> str:
    """Return the last failure of the readiness probe since the container has started; empty if there is none."""
    started = started_at(group)
    told = _newest(_events(group), lambda item: _is(item, "Unhealthy") and "readiness" in _text(item).lower())
    return _text(told) if told is not None and _at(told) >= started else ""


def _container(group: ContainerGroup) -> GroupStatus | None:
    """Return what is wrong with the container; None if nothing is known to be wrong."""
    events = _events(group)
    started = _newest(events, lambda item: _is(item, "Started", "Pulled"))
    since_start = _at(started) if started else _NEVER
    pull = _newest(
        events, lambda item: _is(item, "Failed", "ErrImagePull", "ImagePullBackOff") and "image" in _text(item)
    )
    if pull is not None and _at(pull) > since_start:
        # The service tries again if the registry cannot be reached for a moment, but a refusal is final.
        final = bool(_FOR_GOOD.search(_text(pull))) or int(pull.count or 1) >= _REPEATS
        return GroupStatus(
            EndpointStatus.FAILED if final else EndpointStatus.CHANGING,
            _text(pull),
            _pull_hint(group),
            final,
            _at(pull),
        )
    return _killed_by_probe(group, events) or _ended(group)


@dataclass(frozen=True, slots=True)
class _Run:
    """The current and the last run of the container; ``ended`` is the state of one that ended without a successor."""

    word: str
    ended: Any
    restarts: int
    looping: bool

    @property
    def hopeless(self) -> bool:
        """Whether another start will not help."""
        return self.looping or self.restarts >= _REPEATS


def _run(group: ContainerGroup) -> _Run:
    view = group.containers[0].instance_view if group.containers else None
    current, previous = getattr(view, "current_state", None), getattr(view, "previous_state", None)
    word = str(getattr(current, "state", None) or "").lower()
    ended = current if word == "terminated" else previous if word == "waiting" else None
    looping = "crashloop" in str(getattr(current, "detail_status", None) or "").lower()
    return _Run(word, ended, int(getattr(view, "restart_count", None) or 0), looping)


def _killed_by_probe(group: ContainerGroup, events: list[Event]) -> GroupStatus | None:
    """Return the state if the service keeps ending the container because it does not respond; else None."""
    run = _run(group)
    probe = _newest(events, lambda item: _is(item, "Unhealthy") and "liveness" in _text(item).lower())
    killed = _newest(events, lambda item: _is(item, "Killing"))
    steady = run.word == "running" and datetime.now(UTC) - started_at(group) > _STEADY
    if probe is None or killed is None or steady or not run.hopeless:
        return None
    return GroupStatus(
        EndpointStatus.FAILED,
        f"the container keeps being restarted: {_text(probe)}",
        "see its log below; the server must respond to /health/live on port 8000 (MLOPS_HOST, MLOPS_PORT)",
        final=True,
        since=_at(killed),
    )


def _ended(group: ContainerGroup) -> GroupStatus | None:
    """Return the state if the container has ended by itself; else None."""
    run = _run(group)
    if run.ended is None or not (run.hopeless or run.word == "terminated"):
        return None
    code, detail = getattr(run.ended, "exit_code", None), str(getattr(run.ended, "detail_status", None) or "")
    why = f" with exit code {code}" if code is not None else ""
    why += " (it used more memory than it has: increase --memory)" if "oom" in detail.lower() else ""
    return GroupStatus(
        EndpointStatus.FAILED if run.hopeless else EndpointStatus.CHANGING,
        f"the container ended{why}, {counted(run.restarts + 1, 'time')} so far",
        "fix what its log says; the image must contain the model's bundle and run `mlops serve`",
        final=run.hopeless,
        since=getattr(run.ended, "finish_time", None) or _NEVER,
    )


def _pull_hint(group: ContainerGroup) -> str:
    image = group.containers[0].image
    host = image.partition("/")[0]
    return (
        f"push the image (az acr login --name {host.partition('.')[0]}; docker push {image}), and give the identity of"
        f" MLOPS_AZURE_PULL_IDENTITY the role AcrPull on {host}"
    )


def _current(group: ContainerGroup) -> Any:
    view = group.containers[0].instance_view if group.containers else None
    return getattr(view, "current_state", None)


def _events(group: ContainerGroup) -> list[Event]:
    """Events of the container and of the group, oldest first."""
    views: list[Any] = [item.instance_view for item in group.containers] + [group.instance_view]
    found = [event for view in views for event in getattr(view, "events", None) or []]
    return sorted(found, key=_at)


def _newest(events: list[Event], wanted: Any) -> Event | None:
    return next((item for item in reversed(events) if wanted(item)), None)


def _is(event: Event, *words: str) -> bool:
    return event.name in words or event.type in words


def _text(event: Event) -> str:
    return " ".join(str(event.message or event.name or "").split())


def _at(event: Event) -> datetime:
    return event.last_timestamp or event.first_timestamp or _NEVER
