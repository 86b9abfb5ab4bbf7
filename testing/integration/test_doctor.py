"""``mlops doctor --azure``, and the checks before anything is made, against the emulator that refuses as Azure does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from testing.support.azure_project import write_project
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.places import Place

from azureml_emulator.https_server import HttpsServer
from azureml_emulator.identity.sign_in_routes import by_secret
from vision_mlops.azure.preflight import passed_checks
from vision_mlops.azure.preflight.preflight import Preflight
from vision_mlops.azure.preflight.purposes import Demand, purpose_of
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.doctor.check_results import Diagnosis

Run = Callable[..., tuple[int, str, str]]
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is tried again at once."""
    from azure.core.pipeline.policies import RetryPolicy

    monkeypatch.setattr(RetryPolicy, "sleep", lambda *given: None)


def checked(run: Run, *words: str, code: int) -> dict[str, list[dict[str, str]]]:
    """The results by name."""
    ended, out, err = run("doctor", "--for", "all", "--json", *words)
    assert ended == code, out + err
    found: dict[str, list[dict[str, str]]] = {}
    for item in json.loads(out)["checks"]:
        found.setdefault(item["name"], []).append(item)
    return found


def outcomes(found: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {name: " ".join(item["outcome"] for item in items) for name, items in found.items()}


def test_all_is_fine(run: Run, place: Place) -> None:
    # The registry's host is that of Azure, which is not to be had in this form of the emulator.
    found = checked(run, "--name", "storage=stvisiondev", code=0)
    assert outcomes(found) == {
        "sign-in": "ok", "subscription": "ok", "resource group": "ok", "roles": "ok", "providers": "ok", "region": "ok",
        "workspace": "ok", "quota": "ok ok", "storage": "ok", "names": "ok",
    }  # fmt: skip
    assert "by EnvironmentCredential" in found["sign-in"][0]["detail"]
    assert "needs 8 vCPUs, 4 of them for upgrades; 24 of 24 are free" in found["quota"][1]["detail"]
    assert {item.method for item in place.loopback.seen("/subscriptions")} == {"GET", "POST"}  # only asked
    assert not [item for item in place.loopback.seen() if item.method == "POST" and "checkName" not in item.path
                and "token" not in item.path]  # fmt: skip


def _lose_subscription(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "11111111-0000-0000-0000-000000000000")


def _disable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.loopback.limits.subscription_state = "Disabled"


def _other_group(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_RESOURCE_GROUP", "rg-nowhere")


def _read_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in by_secret("Reader").items():
        monkeypatch.setenv(name, value)


def _wrong_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")


def _unregistered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.loopback.limits.unregistered = {"microsoft.web"}


def _elsewhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_LOCATION", "westeuropa")


def _no_quota(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.loopback.limits.family_cores = 0
    monkeypatch.setenv("MLOPS_AZURE_CPU_CLUSTER", "new-cluster")


def _no_such_size(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AZURE_INSTANCE_TYPE", "Standard_DS33_v2")


def _no_workspace(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "mlw-nowhere")


def _vault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AZURE_KEY_VAULT", "kv-nowhere")


@pytest.mark.parametrize(
    ("spoil", "name", "detail", "fix"),
    [
        (_lose_subscription, "subscription", "not found", "az account list"),
        (_disable, "subscription", "is Disabled: nothing can be created", "enable it in the portal"),
        (_other_group, "resource group", "rg-nowhere does not exist", "az group create --name rg-nowhere"),
        (
            _read_only, "roles", "may not create jobs and online endpoints and batch endpoints",
            f'--role "AzureML Data Scientist" --scope "{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/ws"',
        ),
        (_wrong_secret, "sign-in", "AADSTS7000215", "az login"),
        (_unregistered, "providers", "Microsoft.Web is NotRegistered", "az provider register --namespace Microsoft.Web"),
        (_elsewhere, "region", "AZURE_LOCATION=westeuropa", "did you mean 'westeurope'"),
        (_no_quota, "quota", "need 16 vCPUs; 0 of 0 are free", "MLOPS_AZURE_CPU_SKU=SIZE"),
        (_no_such_size, "size", "Standard_DS33_v2 (MLOPS_AZURE_INSTANCE_TYPE) is not offered", "Standard_DS3_v2"),
        (_no_workspace, "workspace", "mlw-nowhere is not in resource group rg", "export AZUREML_WORKSPACE_NAME="),
        (_vault, "names", "key vault kv-nowhere (MLOPS_AZURE_KEY_VAULT) does not exist", "make infra-up"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_fix(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch, spoil: Any, name: str, detail: str, fix: str
) -> None:
    spoil(place, monkeypatch)
    found = checked(run, code=1)
    wrong = [item for item in found[name] if item["outcome"] == "fail"]
    assert detail in wrong[0]["detail"], wrong
    assert fix in wrong[0]["fix"], wrong


def test_names_that_are_taken_or_cannot_be(run: Run, place: Place) -> None:
    place.loopback.limits.taken = {"stvision", "crvision"}
    given = [
        "storage=stvision",
        "storage=ST-Vision",
        "registry=crvision",
        "vault=kv--vision",
        "webapp=vision-web",
        "vault=emulator",
    ]
    found = checked(run, *(word for name in given for word in ("--name", name)), code=1)["names"]
    assert [(item["outcome"], item["detail"].partition(":")[0]) for item in found] == [
        ("fail", "'ST-Vision' cannot be the name of a storage account"),
        ("fail", "'kv--vision' cannot be the name of a key vault"),
        ("fail", "storage account stvision is not available"),
        ("fail", "container registry crvision is not available"),
        ("ok", "web app vision-web is available"),
        ("ok", "key vault emulator is in resource group rg"),
    ]
    assert run("doctor", "--name", "storage")[0] == 2
    assert "unknown kind 'disk'" in run("doctor", "--name", "disk=x")[2]
    assert "did you mean 'managed'" in run("doctor", "--for", "manged")[2]


def test_settings_that_are_missing_are_what_is_wrong(run: Run, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_RESOURCE_GROUP")
    (found,) = checked(run, code=1)["azure settings"]
    assert "AZURE_RESOURCE_GROUP is not set" in found["detail"]
    assert "export AZURE_RESOURCE_GROUP=rg-vision" in found["fix"]


def test_a_network_that_is_gone_in_the_middle(run: Run, place: Place) -> None:
    place.loopback.faults.drop("providers", times=99, method="GET")
    found = checked(run, code=1)
    assert list(found) == ["sign-in", "subscription", "resource group", "roles", "not checked"]
    assert found["roles"][0]["outcome"] == "fail"
    assert "Azure cannot be reached" in found["roles"][0]["detail"]
    assert found["not checked"][0]["detail"].startswith(
        "providers, region, workspace, size and quota, storage, registry"
    )


def test_who_may_not_read_is_not_stopped_by_that(run: Run, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in by_secret("AzureML Data Scientist").items():
        monkeypatch.setenv(name, value)
    code, out, err = run("doctor", "--for", "jobs")
    assert (code, "0 fail" in out, "roles do not let you see it" in out) == (0, True, True), out + err


async def _not_yours(request: Request) -> Response:
    code = "AuthorizationPermissionMismatch"
    text = "This request is not authorized to perform this operation using this permission."
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'
    return Response(body, 403, {"x-ms-error-code": code}, "application/xml")


def test_data_that_the_caller_may_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.ai.ml.constants import _common as constants

    def storage() -> Diagnosis:
        results = Preflight(AzureSettings.load(), purpose_of("jobs"), date.today()).run()
        return next(item for item in results if item.name == "storage")

    cloud = place.loopback
    server = HttpsServer(cloud.sites._certificates)
    server.start(Starlette(routes=[Route("/{path:path}", _not_yours)]))
    monkeypatch.setitem(constants.STORAGE_ACCOUNT_URLS, "AzureBlob", f"{server.url}/devstoreaccount1")
    try:
        by_key = storage()
        for store in cloud.store.children(f"{cloud.path()}/datastores"):
            store.properties.update(credentials={"credentialsType": "None"})
        by_identity = storage()
    finally:
        server.stop()
    assert (by_key.outcome, by_identity.outcome) == ("warn", "fail")
    assert '--role "Storage Blob Data Contributor"' in by_identity.fix
    assert "Microsoft.Storage/storageAccounts/devstoreaccount1" in by_identity.fix


# Before a command makes anything


def test_a_failed_check_stops_a_job_before_anything_is_made(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path / "project")
    job = ("job", "run", str(project / "pipeline.yml"), "--on", "azure", "--no-wait")
    _read_only(place, monkeypatch)
    code, _, err = run(*job)
    assert (code, "roles: " in err, "; nothing was created" in err) == (2, True, True), err
    assert "-> az role assignment create --assignee-object-id" in err
    assert [item for item in place.loopback.seen() if item.method in ("PUT", "PATCH")] == []
    code, _, err = run(*job, "--skip-checks")
    assert (code, "; nothing was created" in err) == (2, False), err  # the service refuses by itself


@pytest.mark.slow
def test_checks_that_passed_are_not_made_again_for_a_while(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path / "project")
    publish = ("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-files")
    assert run(*publish)[0] == 0
    asked = place.count("permissions")
    assert run(*publish)[0] == 0
    assert place.count("permissions") == asked == 1
    monkeypatch.setattr(passed_checks, "SECONDS", 0)
    assert run(*publish)[0] == 0
    assert place.count("permissions") == 2


def test_a_cluster_that_is_there_needs_no_quota_to_go_on(place: Place) -> None:
    place.loopback.limits.family_cores = 0
    demands = [Demand("Standard_DS3_v2", 1, "MLOPS_AZURE_CPU_SKU", cluster=name) for name in ("cpu-cluster", "new")]
    purpose = purpose_of("jobs").with_demands(*demands)
    found = [item for item in Preflight(AzureSettings.load(), purpose, date.today()).run() if item.name == "quota"]
    assert [item.outcome for item in found] == ["warn", "fail"]


def test_a_size_is_not_sold_any_more(place: Place) -> None:
    purpose = purpose_of("jobs").with_demands(Demand("Standard_DS3_v2", 1, "MLOPS_AZURE_CPU_SKU"))
    found = list(Preflight(AzureSettings.load(), purpose, date(2028, 6, 1)).run())
    assert [item.detail for item in found if item.outcome == "fail"] == [
        "Standard_DS3_v2 (MLOPS_AZURE_CPU_SKU): the series D, Ds, Dv2, Dsv2 and Ls was retired on 2028-05-01"
    ]


# By variables alone


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with emulator(tmp_path_factory.mktemp("doctor") / "state") as found:
        yield found


@pytest.mark.slow
def test_by_variables_alone_with_storage_and_registry(running: EmulatorProcess, tmp_path: Path) -> None:
    def ask(**variables: str) -> dict[str, str]:
        words = [sys.executable, "-m", "vision_mlops", "doctor", "--for", "all", "--json"]
        done = subprocess.run(
            words, env={**running.environment, **variables}, cwd=tmp_path, capture_output=True, text=True
        )
        return {item["name"]: f"{item['outcome']}: {item['detail']}" for item in json.loads(done.stdout)["checks"]}

    found = ask()
    assert found["storage"].startswith("ok: blobs of devstoreaccount1/")
    assert found["registry"].startswith("ok: wsimages.azurecr.io accepts the token of ")
    assert not any(result.startswith("fail") for result in found.values())
    found = ask(MLOPS_AZURE_CONTAINER_REGISTRY="crnowhere.azurecr.io")
    assert found["registry"] == "warn: crnowhere.azurecr.io responds with HTTP 404"
    assert found["names"].startswith(
        "fail: container registry crnowhere (MLOPS_AZURE_CONTAINER_REGISTRY) does not exist"
    )
    found = ask(**by_secret("AzureML Data Scientist"))
    assert found["registry"].startswith("fail: wsimages.azurecr.io refuses ")


def test_here_within_two_seconds_without_heavy_imports(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['mlops', 'doctor', '--json']\n"
        "from vision_mlops.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'azure', 'mlflow', 'openvino', 'numpy', 'kubernetes'} & set(sys.modules)\n"
        "print(heavy, code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MLOPS_HOME": "home"},
    )
    assert done.stderr.strip().endswith("set() 0"), done.stderr
    assert len(json.loads(done.stdout)["checks"]) >= 10
    assert list(tmp_path.iterdir()) == []  # nothing is written
