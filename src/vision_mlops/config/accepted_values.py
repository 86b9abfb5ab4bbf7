"""What a setting accepts, in words, for the message about a value that it does not."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vision_mlops.core.text import nearest


def accepted(field: FieldInfo, value: str, reason: str) -> str:
    """What to write in place of a value.

    Args:
        field: Of the setting.
        value: What was written.
        reason: What pydantic says against it; used where the field does not say more.
    """
    if get_origin(field.annotation) is Literal:
        return nearest(value, get_args(field.annotation))
    if field.annotation is int:
        limits = {
            name: getattr(limit, name) for name in ("ge", "le") for limit in field.metadata if hasattr(limit, name)
        }
        if len(limits) == 2:
            return f"give a whole number from {limits['ge']} to {limits['le']}"
    return f"write it like {field.examples[0]}" if field.examples else reason.removeprefix("Value error, ")
