"""The pipelines that come with the package: Azure ML v2 YAML, and the code of their parallel step."""

from pathlib import Path

PIPELINES = Path(__file__).parent
"""Folder of the shipped definitions."""
