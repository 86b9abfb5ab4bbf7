"""Variables that the caller of the engine hands to the steps, in addition to those of the definition.

They are not part of a step's cache key: a step that did the same before is reused whatever they say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

VARIABLE = "MLOPS_STEP_VARIABLES"
"""Names a JSON file: variables by step, where the empty name stands for all steps."""


def handed_variables(step: str) -> dict[str, str]:
    """Those for a step; none where no file is named."""
    file = os.environ.get(VARIABLE)
    if not file:
        return {}
    content: dict[str, dict[str, str]] = json.loads(Path(file).read_text(encoding="utf-8"))
    return {**content.get("", {}), **content.get(step, {})}
