"""Autoscale rules of managed endpoints over the command line, against the loopback cloud."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place

from vision_mlops.azure.clients import manager_calls
from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.core.errors import AzureError
from vision_mlops.endpoints.azureml.autoscale import API_VERSION, _definition, ensure_rules, remove_rules
from vision_mlops.registry import open_registry

Run = Callable[..., tuple[int, str, str]]
BASE = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/autoscaleSettings"


@pytest.fixture
def deploy(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    monkeypatch.setenv("MLOPS_AZURE_INFERENCING_IMAGE", "example.azurecr.io/vision-mlops-inferencing:1")
    _ = place.loopback
    open_registry().register(make_bundle(tmp_path / "bundle"), "colours")
    return lambda *words: run("deploy", "--to", "managed", "--model", "colours:1", *words)


def rules(place: Place) -> list[dict[str, Any]]:
    return [item.to_dict() for item in place.loopback.store.below(BASE)]


@pytest.mark.slow
def test_rules_come_and_go_with_the_deployment(
    place: Place, deploy: Callable[..., tuple[int, str, str]], run: Run
) -> None:
    code, _, said = deploy("--min-instances", "2", "--max-instances", "4")
    assert code == 0, said
    assert "deployment version-1 has 2 to 4 instances" in said
    (found,) = rules(place)
    (profile,) = found["properties"]["profiles"]
    assert profile["capacity"] == {"minimum": "2", "maximum": "4", "default": "2"}
    assert found["location"] == "westeurope"
    target = f"{place.loopback.path()}/onlineEndpoints/colours/deployments/version-1"
    assert found["properties"]["targetResourceUri"] == target
    actions = [(rule["metricTrigger"]["operator"], rule["scaleAction"]["direction"]) for rule in profile["rules"]]
    assert actions == [("GreaterThan", "Increase"), ("LessThan", "Decrease")]
    code, out, _ = run("endpoint", "show", "colours", "--on", "managed", "--json")
    assert json.loads(out)["deployments"][0]["instances"] == 2

    # The same again changes nothing, other bounds change the rules alone, and without bounds they stay.
    puts = place.count("autoscaleSettings", "PUT"), place.count("deployments/version-1", "PUT")
    assert deploy("--min-instances", "2", "--max-instances", "4")[0] == 0
    assert (place.count("autoscaleSettings", "PUT"), place.count("deployments/version-1", "PUT")) == puts
    assert deploy("--min-instances", "2", "--max-instances", "6")[0] == 0
    assert place.count("deployments/version-1", "PUT") == puts[1]
    assert rules(place)[0]["properties"]["profiles"][0]["capacity"]["maximum"] == "6"

    assert run("endpoint", "delete", "colours", "--on", "managed")[0] == 0
    assert rules(place) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--min-instances", "2"), "--min-instances without --max-instances"),
        (("--max-instances", "2"), "--max-instances without --min-instances"),
        (("--min-instances", "3", "--max-instances", "2"), "--min-instances 3 is above --max-instances 2"),
        (
            ("--min-instances", "1", "--max-instances", "2", "--instances", "3"),
            "--instances 3 is not between --min-instances 1 and --max-instances 2",
        ),
        (("--min-instances", "0", "--max-instances", "2"), "Invalid value for '--min-instances'"),
    ],
)
def test_wrong_bounds_are_refused_before_anything_is_made(
    place: Place, deploy: Callable[..., tuple[int, str, str]], words: tuple[str, ...], message: str
) -> None:
    code, _, err = deploy(*words)
    assert (code, message in err) == (2, True), err
    assert place.loopback.store.below(f"{place.loopback.path()}/onlineEndpoints") == []


def test_other_targets_have_no_rules(deploy: Callable[..., tuple[int, str, str]], run: Run) -> None:
    code, _, err = run(
        "deploy", "--to", "local", "--model", "colours:1", "--min-instances", "1", "--max-instances", "2"
    )
    assert (code, "--min-instances" in err or "--max-instances" in err) == (2, True), err


def test_who_may_not_see_rules_has_made_none(place: Place) -> None:
    place.loopback.faults.fail("autoscaleSettings", 403, code="AuthorizationFailed", retry_after=None)
    remove_rules(place.settings, "e", "d")
    assert place.count("autoscaleSettings", "DELETE") == 0


def test_the_service_refuses_what_it_cannot_do(place: Place) -> None:
    from azure.core.rest import HttpRequest

    _ = place.loopback
    with pytest.raises(AzureError, match=r"autoscale rules of deployment 'd': the target resource .* was not found"):
        ensure_rules(place.settings, "nowhere", "d", "westeurope", 1, 2)
    wanted = _definition(ResourceManager(place.settings), "e", "d", "westeurope", 2, 1)
    place.loopback.store.put(
        wanted["properties"]["targetResourceUri"], {"properties": {"endpointComputeType": "Managed"}}
    )
    with manager_calls(place.settings) as client:
        path = f"{place.loopback.url}{BASE}/e-d?api-version={API_VERSION}"
        assert client.send_request(HttpRequest("PUT", path, json=wanted)).status_code == 400
        assert client.send_request(HttpRequest("DELETE", path)).status_code == 204
