"""Scripts of ``infrastructure`` against a recording `az` with a small Azure: from nothing, twice, and back to nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from testing.support.recorded_commands import ROOT, World
from testing.support.recording_az import NODES, PERSON

SCRIPTS = sorted((ROOT / "infrastructure").rglob("*.sh"))
RUNNABLE = [str(path.relative_to(ROOT / "infrastructure")) for path in SCRIPTS if path.name != "common.sh"]
NEEDED = {
    "up.sh": ("dev",),
    "down.sh": ("dev",),
    "aks/create.sh": ("--group", "rg-a", "--name", "aks-a", "--registry", "crvision"),
    "aks/delete.sh": ("--group", "rg-a", "--name", "aks-a"),
    "custom_vision/create.sh": ("--group", "rg-a", "--name", "cv-a"),
    "custom_vision/delete.sh": ("--group", "rg-a", "--name", "cv-a"),
}
TWINS = [
    ("up.sh", "down.sh"),
    ("aks/create.sh", "aks/delete.sh"),
    ("custom_vision/create.sh", "custom_vision/delete.sh"),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.run_in(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "--external-sources", *SCRIPTS], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", RUNNABLE)
def test_scripts_stop_at_the_first_error_and_explain_themselves(script: str, world: World) -> None:
    path = ROOT / "infrastructure" / script
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in path.read_text()
    assert path.stat().st_mode & 0o111
    done = world.run(script, "--help")
    assert (done.returncode, done.stdout.startswith(f"usage: infrastructure/{script} ")) == (0, True)
    assert world.calls == []


@pytest.mark.parametrize("script", RUNNABLE)
@pytest.mark.parametrize(
    ("words", "message"), [(("--wrong",), "unknown option --wrong"), (("--group",), "--group needs a value")]
)
def test_wrong_options(script: str, words: tuple[str, ...], message: str, world: World) -> None:
    done = world.run(script, *words)
    assert (done.returncode, f"error: {message}" in done.stderr) == (2, True), done.stderr
    assert world.calls == []


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("up.sh", (), "no environment given"),
        ("up.sh", ("test",), "unknown environment 'test'\n  known: dev prod"),
        ("up.sh", ("dev", "prod"), "more than one environment: dev and prod"),
        ("down.sh", (), "no environment given"),
        ("aks/create.sh", ("--group", "a"), "--group, --name and --registry are needed"),
        (
            "aks/create.sh",
            (*NEEDED["aks/create.sh"], "--nodes", "4-2"),
            "--nodes 4-2: the least are more than the most",
        ),
        ("aks/create.sh", (*NEEDED["aks/create.sh"], "--nodes", "many"), "--nodes many: not of the form LEAST-MOST"),
        ("aks/create.sh", (*NEEDED["aks/create.sh"], "--namespace", "A/b"), "--namespace A/b: not a name"),
        ("aks/create.sh", (*NEEDED["aks/create.sh"], "--host", "a b"), "--host a b: not a DNS name"),
        ("aks/create.sh", (*NEEDED["aks/create.sh"], "--workspace", "w"), "--workspace needs --identity"),
        ("custom_vision/create.sh", ("--group", "a", "--name", "A_b"), "--name A_b is not valid"),
        ("custom_vision/create.sh", (*NEEDED["custom_vision/create.sh"], "--sku", "S9"), "--sku S9 is not valid"),
    ],
)
def test_bad_input_is_named(script: str, words: tuple[str, ...], message: str, world: World) -> None:
    done = world.run(script, *words)
    assert (done.returncode, f"error: {message}" in done.stderr) == (2, True), done.stderr
    assert world.calls == []


def test_a_name_that_azure_would_refuse(world: World) -> None:
    done = world.run("up.sh", "dev", MLOPS_NAME="Vision-Team")
    assert (done.returncode, "MLOPS_NAME='Vision-Team' is not valid" in done.stderr) == (2, True)


@pytest.mark.parametrize("script", RUNNABLE)
def test_who_is_not_signed_in_is_told_so(script: str, world: World) -> None:
    world.change(user=None)
    done = world.run(script, *NEEDED[script])
    assert (done.returncode, "error: not signed in to Azure\n  az login\n" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("up", "down"), TWINS)
def test_from_nothing_twice_and_back_to_nothing(up: str, down: str, world: World) -> None:
    first = world.run(up, *NEEDED[up])
    assert first.returncode == 0, first.stderr
    made = world.state
    assert made["resources"]
    again = world.run(up, *NEEDED[up])
    assert again.returncode == 0, again.stderr
    assert {key: made[key] for key in ("resources", "roles", "groups")} == {
        key: world.state[key] for key in ("resources", "roles", "groups")
    }, "the second time nothing changes"

    dry = world.run(down, *NEEDED[down], "--dry-run")
    assert (dry.returncode, world.state["resources"]) == (0, made["resources"]), dry.stderr
    refused = world.run(down, *NEEDED[down])
    assert (refused.returncode, "needs a confirmation" in refused.stderr) == (2, True)
    other = world.run(down, *NEEDED[down], answer="yes")
    assert (other.returncode, "not confirmed: nothing was deleted" in other.stderr) == (1, True)
    assert world.state["resources"] == made["resources"]

    gone = world.run(down, *NEEDED[down], answer="rg-vision-dev" if down == "down.sh" else NEEDED[down][-1])
    assert gone.returncode == 0, gone.stderr
    listed = gone.stderr[: gone.stderr.index("\n+ ")]
    names = {key.rpartition("/")[2] for key in made["resources"] if not re.search("/MC_|/roleAssignments/", key)}
    assert [name for name in names if name not in listed] == [], "what is deleted was listed first"
    assert world.state["resources"] == {}
    assert not [key for key, kind in world.state["deleted"].items() if "Cognitive" in kind], "their names are free"
    nothing = world.run(down, *NEEDED[down])
    assert (nothing.returncode, "nothing to delete" in nothing.stderr) == (0, True), nothing.stderr


def test_a_failed_check_stops_before_the_deployment(world: World) -> None:
    world.fail_checks()
    done = world.run("up.sh", "dev")
    assert (done.returncode, "a check failed; nothing was deployed" in done.stderr) == (1, True), done.stderr
    assert world.checks == ["mlops doctor --for infrastructure"]
    assert not [call for call in world.calls if call.startswith("stack group create")]
    assert world.run("up.sh", "dev", "--skip-checks").returncode == 0
    assert len(world.checks) == 1


@pytest.mark.parametrize("script", [up for up, _down in TWINS])
def test_a_dry_run_only_looks(script: str, world: World) -> None:
    done = world.run(script, *NEEDED[script], "--dry-run")
    assert done.returncode == 0, done.stderr
    assert world.changing == []
    shown = [line for line in done.stderr.splitlines() if line.startswith("+ az ")]
    assert shown
    assert world.others == []
    world.run(script, *NEEDED[script])
    shown = world.run(script, *NEEDED[script], "--dry-run").stderr.splitlines()
    assert len([line for line in shown if line.startswith("+ ")]) >= 1, "also where all is there"


def test_a_plan_asks_azure_what_would_change(world: World) -> None:
    done = world.run("up.sh", "dev", "--plan")
    assert (done.returncode, "resource group rg-vision-dev does not exist" in done.stderr) == (0, True)
    world.change(groups={"rg-vision-dev": {"tags": {}}})
    done = world.run("up.sh", "dev", "--plan")
    assert done.returncode == 0, done.stderr
    assert world.calls[-1].startswith(
        "deployment group what-if --resource-group rg-vision-dev --template-file main.bicep"
    )
    assert world.changing == []


def test_roles_that_have_not_taken_effect_are_waited_for(world: World) -> None:
    late = {"times": 3, "message": "AuthorizationPermissionMismatch: This request is not authorized"}
    early = {"times": 1, "message": "(AuthorizationFailed) does not have authorization to perform action"}
    world.change(in_group=True, faults={"storage container list": late, "stack group create": early})
    done = world.run("up.sh", "dev")
    assert done.returncode == 0, done.stderr
    assert "a role may not have taken effect yet: trying again" in done.stderr
    assert "waiting until your role on the data has taken effect" in done.stderr
    assert sum(call.startswith("storage container list") for call in world.calls) == 4
    assert done.stdout == "AZURE_RESOURCE_GROUP=rg-vision-dev\nB=2\n"


def test_a_role_that_never_takes_effect_ends_the_wait(world: World) -> None:
    late = {"times": 99, "message": "AuthorizationPermissionMismatch"}
    world.change(in_group=True, faults={"storage container list": late})
    done = world.run("up.sh", "dev")
    assert (done.returncode, "your role on the data has taken effect: not within 0 s" in done.stderr) == (1, True)
    assert "AuthorizationPermissionMismatch" in done.stderr


def test_another_failure_of_the_deployment_is_not_repeated(world: World) -> None:
    world.change(
        faults={"stack group create": {"times": 1, "message": "(QuotaExceeded) Operation could not be completed"}}
    )
    done = world.run("up.sh", "dev")
    assert (done.returncode, "error: the deployment failed" in done.stderr) == (1, True)
    assert "(QuotaExceeded)" in done.stderr
    assert sum(call.startswith("stack group create") for call in world.calls) == 1


@pytest.mark.slow
def test_a_vault_that_was_deleted_is_taken_back(world: World) -> None:
    assert world.run("up.sh", "dev").returncode == 0
    assert world.run("down.sh", "dev", "--yes").returncode == 0
    assert list(world.state["deleted"].values()) == ["Microsoft.KeyVault/vaults"]
    assert world.run("up.sh", "dev").returncode == 0
    assert world.state["deleted"] == {}


def test_a_budget_keeps_its_first_day(world: World) -> None:
    start = {"name": "budget-vision-dev", "timePeriod": {"startDate": "2026-03-01T00:00:00Z"}}
    world.change(budgets=[start], groups={"rg-vision-dev": {"tags": {}}})
    assert world.run("up.sh", "dev").returncode == 0
    assert "2026-03-01" in world.az.budget_starts


@pytest.mark.slow
def test_what_others_made_stays(world: World) -> None:
    assert world.run("up.sh", "dev").returncode == 0
    state = world.state
    group = next(iter(state["resources"])).partition("/providers/")[0]
    theirs = f"{group}/providers/Microsoft.ContainerInstance/containerGroups/textile"
    world.change(resources={**state["resources"], theirs: {"id": theirs}})
    done = world.run("down.sh", "dev", "--yes")
    assert done.returncode == 0, done.stderr
    assert "not created by up.sh, and kept" in done.stderr
    assert list(world.state["resources"]) == [theirs]
    assert (
        "resource group rg-vision-dev stays, with:\n  Microsoft.ContainerInstance/containerGroups/textile"
        in done.stderr
    )


@pytest.mark.slow
def test_a_group_of_others_stays(world: World) -> None:
    world.change(groups={"rg-vision-dev": {"tags": {}}})
    assert world.run("up.sh", "dev").returncode == 0
    done = world.run("down.sh", "dev", "--yes")
    assert (done.returncode, "was not created by up.sh and stays" in done.stderr) == (0, True), done.stderr
    assert list(world.state["groups"]) == ["rg-vision-dev"]


def test_a_cluster_is_ready_to_be_deployed_to(world: World) -> None:
    world.refuse_kubernetes(2)
    done = world.run("aks/create.sh", *NEEDED["aks/create.sh"], "--host", "*.ai.example.net", "--namespace", "team")
    assert done.returncode == 0, done.stderr
    roles = [(role["principalId"], role["roleDefinitionName"]) for role in world.state["roles"]]
    assert roles == [(NODES, "AcrPull"), (PERSON, "Azure Kubernetes Service RBAC Cluster Admin")]
    assert "waiting until your role in the cluster has taken effect" in done.stderr
    assert sum("auth can-i" in line for line in world.others) == 3
    assert "kubelogin convert-kubeconfig --login azurecli" in world.others
    manifests = list(yaml.safe_load_all(world.applied))
    assert [item["kind"] for item in manifests] == ["Namespace", "NetworkPolicy", "Namespace", "Gateway"]
    assert manifests[-1]["spec"]["listeners"][0]["hostname"] == "*.ai.example.net"
    assert not re.search(r"vision$|ml\.example\.org", world.applied, re.MULTILINE)


def test_a_registry_that_is_missing_is_named_before_anything_is_made(world: World) -> None:
    words = (*NEEDED["aks/create.sh"][:-1], "crnone")
    done = world.run("aks/create.sh", *words)
    assert (done.returncode, "error: registry crnone is not found" in done.stderr) == (2, True)
    assert world.changing == []


@pytest.mark.parametrize(("up", "down"), TWINS[1:])
def test_what_a_script_did_not_make_is_not_deleted(up: str, down: str, world: World) -> None:
    assert world.run(up, *NEEDED[up]).returncode == 0
    resources = world.state["resources"]
    for item in resources.values():
        item["tags"] = {}
    world.change(resources=resources)
    done = world.run(down, *NEEDED[down], "--yes")
    assert (done.returncode, "was not created by create.sh" in done.stderr) == (2, True), done.stderr
    assert world.state["resources"] == resources


@pytest.mark.slow
@pytest.mark.parametrize(("up", "down"), TWINS)
def test_an_interrupted_deletion_goes_on(up: str, down: str, world: World) -> None:
    assert world.run(up, *NEEDED[up]).returncode == 0
    broken = {"down.sh": "stack group delete", "aks/delete.sh": "identity delete"}
    command = broken.get(down, "cognitiveservices account purge")
    world.change(faults={command: {"times": 1, "message": "(ServiceUnavailable)"}})
    assert world.run(down, *NEEDED[down], "--yes").returncode != 0
    assert json.dumps(world.state["resources"] or world.state["deleted"]) != "{}"
    done = world.run(down, *NEEDED[down], "--yes")
    assert done.returncode == 0, done.stderr
    assert world.state["resources"] == {}
