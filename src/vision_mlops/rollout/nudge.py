"""A file that is touched to have the driver on this machine look at the tag at once; that it is missed does no harm."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.rollout.rollout_report import rollouts_folder


class Nudge:
    """Of one endpoint of one target."""

    def __init__(self, target: str, endpoint: str) -> None:
        self._path: Path = rollouts_folder(endpoint) / f".nudge-{target}"
        self._seen = self._stamp()

    def give(self) -> None:
        """Wake whoever drives."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(f"{self._stamp() + 1}", encoding="ascii")

    def came(self) -> bool:
        """Whether one came since this was asked last."""
        before, self._seen = self._seen, self._stamp()
        return self._seen != before

    def _stamp(self) -> int:
        try:
            return int(self._path.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):
            return 0
