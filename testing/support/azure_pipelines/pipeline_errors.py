"""What is wrong with a pipeline: one error, which says where."""

from __future__ import annotations


class PipelineError(Exception):
    """The service would refuse the definition, or this machine cannot run it."""
