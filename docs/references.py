"""Writes the generated references, docs/cli.md and docs/configuration.md; ``--check`` fails if one is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from docs import cli_reference, configuration_reference

REFERENCES = {"cli.md": cli_reference.reference, "configuration.md": configuration_reference.reference}


def main() -> int:
    """Write the references, or compare them."""
    check, stale = "--check" in sys.argv, 0
    for name, text in REFERENCES.items():
        target = Path(__file__).with_name(name)
        current = target.read_text(encoding="utf-8") if target.is_file() else ""
        if current == text():
            continue
        stale += 1
        if check:
            sys.stderr.write(f"docs/{name} is out of date: run `make docs`\n")
        else:
            target.write_text(text(), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
