"""Long tags for a store with short ones: a value that does not fit is packed and spread over numbered tags.

Azure ML documents 50 tags of at most 1,000 characters for runs and experiments, and nothing for models. Models keep to the
same limits here.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping

from vision_mlops.registry import lineage

TAG_LENGTH = 1000
_PARTS = 24
_PACKED = re.compile(r"packed (\d+)")
# What is left out of the facts, in this order, while they do not fit.
_LEAST_NEEDED = ("run", "training", "metrics", "data", "bundle")


def shorten(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags whose values all fit; :func:`whole` turns them back.

    Facts that do not fit even when packed lose the parameters of the run first.
    """
    result: dict[str, str] = {}
    for key, value in tags.items():
        if len(value) <= TAG_LENGTH:
            result[key] = value
            continue
        parts = _parts(value)
        for part in _LEAST_NEEDED:
            if len(parts) > _PARTS and key == lineage.FACTS_TAG:
                value = json.dumps({name: fact for name, fact in json.loads(value).items() if name != part})
                parts = _parts(value)
        if len(parts) > _PARTS:
            result[key] = value[:TAG_LENGTH]
            continue
        result[key] = f"packed {len(parts)}"
        result |= {f"{key}.{number}": part for number, part in enumerate(parts)}
    return result


def whole(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags as they were before :func:`shorten`, without packed ones that have lost a part."""
    result = {str(key): str(value) for key, value in tags.items()}
    for key, value in list(result.items()):
        if found := _PACKED.fullmatch(value):
            # Parts that are left over from a longer value are removed, too.
            spread = [name for name in result if name.startswith(f"{key}.") and name[len(key) + 1 :].isdigit()]
            parts = [result.get(f"{key}.{number}", "") for number in range(int(found[1]))]
            for name in spread:
                del result[name]
            try:
                result[key] = zlib.decompress(base64.b64decode("".join(parts), validate=True)).decode()
            except (ValueError, zlib.error):
                del result[key]
    return result


def _parts(value: str) -> list[str]:
    packed = base64.b64encode(zlib.compress(value.encode(), 9)).decode()
    return [packed[start : start + TAG_LENGTH] for start in range(0, len(packed), TAG_LENGTH)]
