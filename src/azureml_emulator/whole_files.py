"""Files that another process, or this one after a crash, finds complete: the old content or the new one."""

from __future__ import annotations

from pathlib import Path


def write_whole(file: Path, content: str) -> None:
    """Replace the content of a file in one step. Callers that write the same file must take turns."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(content, encoding="utf-8")
    fresh.replace(file)
