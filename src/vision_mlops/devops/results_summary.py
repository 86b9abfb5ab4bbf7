"""The results of `make test-unit` and `make test-integration` as Markdown, for the summary of a pipeline.

Usage: `make test-summary RESULTS=outputs/tests`, or `python -m vision_mlops.devops.results_summary FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

_MOST = 50


def summary(folder: Path) -> str:
    """Return the page.

    Args:
        folder: Folder with ``junit/*.xml`` and ``coverage.xml``; either may be missing.
    """
    rows, failed = [], []
    for file in sorted((folder / "junit").glob("*.xml")):
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):
            tests, failures, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            passed = tests - failures - errors - skipped
            rows.append(
                f"| {file.stem} | {passed} | {failures + errors} | {skipped} | {float(suite.get('time', '0')):.0f} s |"
            )
            failed += [
                f"{case.get('classname')}::{case.get('name')}"
                for case in suite.iter("testcase")
                if case.find("failure") is not None or case.find("error") is not None
            ]
    lines = ["## Tests", ""]
    lines += (
        ["| | passed | failed | skipped | |", "| --- | --- | --- | --- | --- |", *rows] if rows else ["No results."]
    )
    lines += ["", *(f"- failed: `{name}`" for name in failed[:_MOST])]
    coverage = folder / "coverage.xml"
    if coverage.is_file():
        share = float(ElementTree.parse(coverage).getroot().get("line-rate", "0"))
        lines += ["", f"Coverage: {share:.1%} of the lines."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(summary(Path(sys.argv[1])))
