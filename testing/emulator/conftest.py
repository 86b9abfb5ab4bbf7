"""Fixtures for the tests of the emulator."""

from __future__ import annotations

from testing.support.cloud_fixtures import azurite, client, cloud, project, rehearsal, running_cloud

__all__ = ["azurite", "client", "cloud", "project", "rehearsal", "running_cloud"]
