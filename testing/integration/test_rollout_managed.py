"""A rollout on a managed endpoint, over the command line and the real SDK, against the loopback cloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place

from vision_mlops.endpoints.azureml.managed_target import Managed
from vision_mlops.registry import CHAMPION, open_registry

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[int, str, str]]
QUICK = ("--min-requests", "10", "--min-seconds", "0", "--steps", "mirror=50,50,100", "--probe-rate", "50")


def test_a_good_candidate_takes_a_managed_endpoint_over_and_a_bad_one_does_not(
    place: Place, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    monkeypatch.setenv("MLOPS_AZURE_INFERENCING_IMAGE", "example.azurecr.io/vision-mlops-inferencing:1")
    registry = open_registry()
    kinds: tuple[dict[str, Any], ...] = ({}, {"swap": True}, {"image_size": 48})
    for number, how in enumerate(kinds, 1):
        aliases = (CHAMPION,) if number == 1 else ()
        registry.register(make_bundle(tmp_path / str(number), **how), "colours", aliases=aliases)
    assert run("deploy", "--to", "managed", "--model", "colours:1")[0] == 0
    code, out, said = run("rollout", "start", "colours", "-m", "colours:2", *QUICK)
    assert (code, "disagreement" in out) == (1, True), said
    endpoint = Managed().endpoint("colours")
    assert [(item.name, item.traffic, item.mirror) for item in endpoint.deployments] == [("version-1", 100, 0)]
    assert (endpoint.tags, registry.get(f"colours@{CHAMPION}").version) == ({}, 1)
    code, out, said = run("rollout", "start", "colours", "-m", "colours:3", *QUICK)
    assert code == 0, said
    endpoint = Managed().endpoint("colours")
    assert [(item.name, item.traffic) for item in endpoint.deployments] == [("version-3", 100)]
    assert (endpoint.tags, registry.get(f"colours@{CHAMPION}").version) == ({}, 3)
