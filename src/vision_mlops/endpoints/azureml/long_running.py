"""Long-running changes on Azure ML: start them, wait through faults of the service, and report their state on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vision_mlops.azure.azure_errors import azure_errors, is_missing, is_transient
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.core.errors import AzureError
from vision_mlops.endpoints.azureml.azureml_workspace import state_of
from vision_mlops.endpoints.contract import EndpointStatus, Say
from vision_mlops.endpoints.polling import polls
from vision_mlops.jobs.azureml.azure_records import text_of

POLL_SECONDS = (1.0, 20.0)
"""First and longest pause between two polls of what changes, if the service has lost the operation."""
PATIENCE_SECONDS = 300.0
WAIT_SECONDS = 3600.0


def carry_out(
    begin: Callable[[], Any],
    look: Callable[[], Any],
    what: str,
    say: Say,
    *,
    afterwards: str = "",
    missing: str = "does not exist yet; a request that was just sent may still create it",
    seconds: float | None = None,
) -> None:
    """Start a change and wait until it has ended.

    The SDK polls the operation. If that fails for good (the service has a fault, the connection is lost), the changed entity
    itself is polled until it no longer changes.

    Args:
        begin: Starts it and returns the SDK's poller.
        look: Returns the SDK's entity of what is changed.
        what: What is changed, as "deployment 'x' of endpoint 'y'".
        say: Gets messages about faults, and about what continues after Ctrl-C.
        afterwards: How to inspect it and clean up, for the message after Ctrl-C.
        missing: What it means that it does not exist, for the message after Ctrl-C.
        seconds: How long it may take; an hour if not given.

    Raises:
        AzureError: the service refuses, the change fails, or it takes too long.
    """
    deadline = time.monotonic() + (seconds or WAIT_SECONDS)
    try:
        with azure_errors(what), quiet():
            poller = begin()
            try:
                poller.wait(max(0.0, deadline - time.monotonic()))
                if poller.done():
                    poller.result()
                    return
            except Exception as error:
                if not is_transient(error):
                    raise
                lost = str(error).splitlines()[0]
                say(f"{what}: the operation cannot be followed any more ({lost}); polling its state instead")
        _follow(look, what, say, deadline)
    except KeyboardInterrupt:
        say(f"{what} {_present(look, missing)}. {afterwards}".strip())
        raise


def carry_out_removal(begin: Callable[[], Any], look: Callable[[], Any], what: str, say: Say) -> None:
    """Start to delete something, and wait until it is gone. Raises AzureError."""
    try:
        carry_out(begin, look, what, say, missing="no longer exists: it is removed")
    except AzureError as error:
        if error.status != 404:  # it is gone, which is what is wanted
            raise


def _follow(look: Callable[[], Any], what: str, say: Say, deadline: float) -> None:
    for late in polls(deadline - time.monotonic(), *POLL_SECONDS):
        with azure_errors(what), quiet():
            entity = retry_while_busy(look, say, seconds=PATIENCE_SECONDS, first=POLL_SECONDS[0])
        state = state_of(entity)
        if state is EndpointStatus.READY:
            return
        if state is EndpointStatus.FAILED:
            raise AzureError(f"{what} is {text_of(entity.provisioning_state)}", "its log says why")
        if late:
            hint = "see its log; allow more time with --timeout"
            raise AzureError(f"{what} is still {text_of(entity.provisioning_state)} after the time limit", hint)


def _present(look: Callable[[], Any], missing: str) -> str:
    """Say in which state Ctrl-C leaves something; in the words of ``missing`` if it does not exist."""
    try:
        with azure_errors("state"), quiet():
            return f"continues to change in Azure; it is {text_of(look().provisioning_state) or 'ready'}"
    except AzureError as error:
        if is_missing(error):
            return missing
        return f"may continue to change in Azure; its state could not be read ({error.message})"
