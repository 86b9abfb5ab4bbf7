"""Long-running changes on Azure ML: begun, waited for through faults of the service, and left in a known state by Ctrl-C."""

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
from vision_mlops.jobs.azureml.azure_records import text_of

POLL_SECONDS = (1.0, 20.0)
"""Pause between two looks at what changes, where the service has lost the operation: at first, and at most."""
PATIENCE_SECONDS = 300.0
WAIT_SECONDS = 3600.0


def carry_out(
    begin: Callable[[], Any],
    look: Callable[[], Any],
    what: str,
    say: Say,
    *,
    afterwards: str = "",
    seconds: float | None = None,
) -> None:
    """Begin a change and wait for its end.

    The SDK asks how the operation goes; where that fails for good (the service has a fault, the connection is lost), the
    thing itself is looked at until it does not change any more.

    Args:
        begin: Starts it and gives the SDK's poller.
        look: Gets the SDK's entity of what is changed.
        what: What is changed, as "deployment 'x' of endpoint 'y'".
        say: Told what goes on after Ctrl-C, and about faults.
        afterwards: How to look and clean up, said after Ctrl-C.
        seconds: How long it may take; an hour where not given.

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
                say(f"{what}: Azure does not tell how it goes ({str(error).splitlines()[0]}); looking at it instead")
        _follow(look, what, say, deadline)
    except KeyboardInterrupt:
        say(f"{what} goes on in Azure, it is {_word(look)}. {afterwards}".strip())
        raise


def carry_out_removal(begin: Callable[[], Any], look: Callable[[], Any], what: str, say: Say) -> None:
    """Begin to delete something, and wait until it is gone. Raises AzureError."""
    try:
        carry_out(begin, look, what, say)
    except AzureError as error:
        if error.status != 404:  # it is gone, which is what is wanted
            raise


def is_refusal(error: AzureError) -> bool:
    """Whether a change was refused when it was asked for, so that it never began; one that failed later has begun."""
    return error.status >= 400


def _follow(look: Callable[[], Any], what: str, say: Say, deadline: float) -> None:
    pause, longest = POLL_SECONDS
    while True:
        with azure_errors(what), quiet():
            entity = retry_while_busy(look, say, seconds=PATIENCE_SECONDS, first=pause)
        state = state_of(entity)
        if state is EndpointStatus.READY:
            return
        if state is EndpointStatus.FAILED:
            raise AzureError(f"{what} is {text_of(entity.provisioning_state)}", "its log says why")
        if time.monotonic() > deadline:
            hint = "see its log; give it longer with --timeout"
            raise AzureError(f"{what} is still {text_of(entity.provisioning_state)}, its time is up", hint)
        time.sleep(pause)
        pause = min(1.5 * pause, longest)


def _word(look: Callable[[], Any]) -> str:
    try:
        with azure_errors("state"), quiet():
            return text_of(look().provisioning_state) or "ready"
    except AzureError as error:
        return "gone or not yet there" if is_missing(error) else f"in an unknown state ({error.message})"
