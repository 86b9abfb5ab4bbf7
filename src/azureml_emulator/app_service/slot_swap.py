"""The swap of two slots: the settings of the target are applied first, then the warm-up runs, then the addresses change."""

from __future__ import annotations

import threading
import time

from azureml_emulator.app_service.site_process import status_of
from azureml_emulator.app_service.site_slot import SiteSlot
from azureml_emulator.app_service.web_refusals import WebRefusalError

_PATH, _STATUSES = "WEBSITE_SWAP_WARMUP_PING_PATH", "WEBSITE_SWAP_WARMUP_PING_STATUSES"
_WARM_UP_SECONDS = 10.0


class SlotSwap:
    """A swap in progress.

    Args:
        source: Slot with the new release.
        target: Slot that gets it; usually production.
        sticky: Names of the settings that stay with their slot.
    """

    def __init__(self, source: SiteSlot, target: SiteSlot, sticky: set[str]) -> None:
        self._source, self._target, self._sticky = source, target, sticky
        self._error: WebRefusalError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Return whether it has ended."""
        return not self._thread.is_alive()

    def finish(self) -> None:
        """End the swap. Raises WebRefusalError if the slot did not warm up; then nothing was changed."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        source, target, sticky = self._source, self._target, self._sticky
        before = dict(source.settings)
        moving = {name: value for name, value in source.settings.items() if name not in sticky}
        wanted = {**moving, **{name: value for name, value in target.settings.items() if name in sticky}}
        if wanted != before:
            source.settings = wanted
            source.restart()
        if not self._warm():
            if wanted != before:
                source.settings = before
                source.restart()
            message = (
                f"Cannot swap site slots for site '{source.site}' because the '{source.name}' slot did not respond to"
                " http ping."
            )
            self._error = WebRefusalError(417, "ExpectationFailed", message)
            return
        source.settings = before
        source.take_release(target, sticky)
        if wanted != before:  # until then, production runs with its own settings
            source.restart()

    def _warm(self) -> bool:
        settings = self._source.settings
        path = settings.get(_PATH) or "/"
        accepted = {int(word) for word in settings.get(_STATUSES, "").split(",") if word.strip().isdigit()}
        deadline = time.monotonic() + _WARM_UP_SECONDS
        while time.monotonic() < deadline:
            port = self._source.port()
            if port is None:
                return True  # nothing was deployed: the service shows its own page
            status = status_of(port, path) if port and self._source.is_settled else 0
            if status and (not accepted or status in accepted):
                return True
            time.sleep(0.1)
        return False
