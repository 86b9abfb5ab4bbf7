"""Create and change container groups: wait until the server is ready, and undo a change that fails.

A new group that fails is deleted again. An existing group is restored to its former definition, so that the former server
runs again. In between nothing responds, because the service changes a group in place.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors, is_transient
from vision_mlops.core.errors import AzureError, DeploymentError, MlopsError
from vision_mlops.endpoints.aci.container_groups import Groups
from vision_mlops.endpoints.aci.group_definition import facts
from vision_mlops.endpoints.aci.group_state import GroupStatus, base_url, probe_failure, view_of
from vision_mlops.endpoints.contract import EndpointStatus, Say
from vision_mlops.endpoints.polling import polls
from vision_mlops.serving import server_health

if TYPE_CHECKING:
    from azure.core.polling import LROPoller
    from azure.mgmt.containerinstance.models import ContainerGroup

LOG_LINES = 20


class NotReadyError(DeploymentError):
    """A group did not become ready."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a group is meant to become.

    Args:
        title: What it serves, for messages, such as ``textile:3``.
        bundle_id: Bundle id of the model; empty if it is not known.
        seconds: How long it may take.
    """

    title: str
    bundle_id: str
    seconds: float


class Changes:
    """Creates and changes groups.

    Args:
        groups: The service.
        say: Gets progress messages.
    """

    def __init__(self, groups: Groups, say: Say) -> None:
        self._groups = groups
        self._say = say

    def make(self, name: str, group: ContainerGroup, expected: Expected) -> None:
        """Create a new group; it is deleted again if it does not become ready. Raises DeploymentError, AzureError."""
        try:
            poller = self._groups.put(name, group)
            self._say(f"{name}: creating a container group for {expected.title}")
            self.wait(name, poller, expected)
        except MlopsError as error:
            log, left = self._log(name), self._remove(name)
            message = f"endpoint {name!r} with {expected.title}: {error.message}{left}"
            raise DeploymentError(message + log, error.hint) from error

    def update(
        self, name: str, group: ContainerGroup, expected: Expected, former: ContainerGroup, back: ContainerGroup
    ) -> None:
        """Change a group in place.

        Args:
            name: Name of the group.
            group: Its new definition.
            expected: What it is meant to become.
            former: The group as it was read before.
            back: Definition that restores it.

        Raises:
            DeploymentError: the change failed; the message says what state the group is in.
        """
        before = view_of(former)
        try:
            poller = self._groups.put(name, group)
        except AzureError as error:
            if 400 <= error.status < 500:  # refused, so nothing has changed
                message = f"endpoint {name!r} with {expected.title}: {error.message}; it is unchanged"
                raise DeploymentError(message, error.hint) from error
            raise self._failed(name, error, expected, before, back) from error
        self._say(f"{name}: changing to {expected.title}; it does not respond until that is ready")
        try:
            self.wait(name, poller, expected, before)
        except MlopsError as error:
            raise self._failed(name, error, expected, before, back) from error

    def wait(
        self, name: str, poller: LROPoller[Any] | None, expected: Expected, before: GroupStatus | None = None
    ) -> None:
        """Wait until the server of a group is ready with the expected model.

        Args:
            name: Name of the group.
            poller: Poller of the change in progress, if there is one.
            expected: What it is meant to become.
            before: Its state before; problems from then do not count.

        Raises:
            NotReadyError: it does not become ready.
            AzureError: the change failed, or the service cannot be reached for too long.
        """
        try:
            for late in polls(expected.seconds):
                done = self._is_done(name, poller)
                problem, hint = self._look(name, expected, done=done, before=before)
                if not problem:
                    return
                if late:
                    raise NotReadyError(f"not ready after {expected.seconds:g} s: {problem}", hint)
        except KeyboardInterrupt:
            self._say(
                f"endpoint {name} continues to change in Azure. `mlops endpoint show {name} --on aci` shows its state, the"
                f" same `mlops deploy` again continues to wait, `mlops endpoint delete {name} --on aci` removes it"
            )
            raise

    def _is_done(self, name: str, poller: LROPoller[Any] | None) -> bool:
        """Return whether a change has ended. Raises its error if it failed."""
        if poller is None:
            return True
        if not poller.done():
            return False
        try:
            with azure_errors(f"container group {name!r}"):
                poller.result()
        except AzureError as error:
            # Only the polling has failed, not the change: the group itself tells its state.
            if error.__cause__ is None or not is_transient(error.__cause__):
                raise
        return True

    def _look(self, name: str, expected: Expected, *, done: bool, before: GroupStatus | None) -> tuple[str, str]:
        """Return what is still missing, and what may fix it; both are empty if the group is ready. Raises NotReadyError."""
        group = self._groups.find(name, self._say)
        if group is None:
            raise NotReadyError(
                "the container group no longer exists", "deploy again, unless it was deleted on purpose"
            )
        view = view_of(group)
        # Where the change itself has failed, its own error, which says more, may be a moment behind the group.
        told_later = not done and str(group.provisioning_state).lower() in ("failed", "canceled")
        if view.final and not told_later and (before is None or not before.final or view.since > before.since):
            raise NotReadyError(view.problem, view.hint)
        if not done or view.state is not EndpointStatus.READY:
            return view.problem or "the change is in progress", view.hint or f"mlops endpoint logs {name} --on aci"
        found = server_health.ask(base_url(group))
        if found.final:
            raise NotReadyError(found.problem, "build and push an image with a bundle that `mlops serve` accepts")
        if not found.ready:
            told = probe_failure(group)
            return found.problem + (f" ({told})" if told else ""), (
                "see its log; the container must respond on port 8000, and this machine must reach it; allow more time with"
                " --timeout"
            )
        if expected.bundle_id and found.bundle_id != expected.bundle_id:
            raise NotReadyError(
                f"the image contains another model: bundle {found.bundle_id[:12] or 'unknown'}, not that of"
                f" {expected.title}, {expected.bundle_id[:12]}",
                "build and push the image of this version: mlops deploy --to docker --bake; see docs/how_to/deploy_aci.md",
            )
        return "", ""

    def _failed(
        self, name: str, error: MlopsError, expected: Expected, before: GroupStatus, back: ContainerGroup
    ) -> DeploymentError:
        """Restore a group, and return the error to raise."""
        log = self._log(name)
        message = f"endpoint {name!r} with {expected.title}: {error.message}"
        known = facts(back)
        was = Expected(f"{known.model}:{known.version}", known.bundle, 0.0) if known else Expected("it", "", 0.0)
        self._say(f"{name}: {error.message.splitlines()[0]}; restoring {was.title}")
        try:
            poller = self._restore(name, back)
            if before.state is EndpointStatus.READY:
                group = self._groups.find(name)
                view = view_of(group) if group is not None else None
                self.wait(name, poller, replace(was, seconds=expected.seconds), view)
                now = f"{was.title} is served again"
            else:
                now = f"{was.title} is restored, which was {before.state}"
        except MlopsError as second:
            now = f"and {was.title} could not be restored: {second.message}"
        return DeploymentError(f"{message}; {now}{log}", error.hint)

    def _restore(self, name: str, back: ContainerGroup) -> LROPoller[ContainerGroup] | None:
        """Restore a group; one that is stuck in its change is deleted and created again, under the same host name."""
        try:
            return self._groups.put(name, back)
        except AzureError as error:
            if error.status != 409:
                raise
        self._groups.delete(name)
        return self._groups.put(name, back)

    def _remove(self, name: str) -> str:
        """Delete a new group; returns what to say about it."""
        try:
            if self._groups.find(name) is None:
                return ""
            self._groups.delete(name)
        except AzureError as error:
            return f"; the new container group could not be deleted: {error.message}"
        return "; the new container group has been deleted"

    def _log(self, name: str) -> str:
        """Return the last lines of the container, as a part of a message; empty if it has written none."""
        try:
            text = self._groups.logs(name, LOG_LINES).rstrip()
        except AzureError:  # it has never run
            return ""
        return "\n  the last lines of its log:\n" + textwrap.indent(text, "    ") if text else ""
