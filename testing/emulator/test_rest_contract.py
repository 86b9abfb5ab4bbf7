"""Each route of the emulator against the published example of the REST specification, over real HTTPS."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Match, Route
from testing.emulator.contract_calls import Answer, make_calls, tables, written_tables
from testing.emulator.rest_comparison import ContractCall, contract, covered, facts, without
from testing.emulator.rest_examples import FOLDER, ROWS, Json
from testing.emulator.sdk_requests import sdk_versions

from azureml_emulator.emulated_cloud import EmulatedCloud

pytestmark = pytest.mark.slow
CALLS = contract()
_LISTS = {
    "AppServicePlanCollection": "AppServicePlan", "ListUsagesResult": "Usage", "WebAppCollection": "Site",
    "PaginatedComputeResourcesList": "ComputeResource", "SecretListResult": "SecretItem",
    "WorkspaceListResult": "Workspace", "AmlComputeNodesInformation": "AmlComputeNodeInformation",
}  # fmt: skip
_NEVER_SHOWN = ("workspace_key",)  # a key: required of those who send it
_WITHOUT_SDK = "cognitiveservices/"  # its SDK is archived, and none of this project's packages
_NOT_IN_THE_SDK = {
    "TriggerRunSubmissionDto", "RoleAssignment", "RoleAssignmentListResult", "RoleDefinition", "RoleDefinitionListResult",
    "AutoscaleSettingResource", "AutoscaleSettingResourceCollection", "Subscription", "SubscriptionListResult",
    "TenantListResult", "Identity", "UserAssignedIdentitiesListResult", "FederatedIdentityCredential",
    "FederatedIdentityCredentialsListResult", "StorageAccount", "StorageAccountListResult", "StorageAccountListKeysResult",
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(running_cloud: tuple[EmulatedCloud, Path]) -> Iterator[dict[str, Answer]]:
    """The answers to all calls."""
    yield make_calls(*running_cloud)
    running_cloud[0].reset()


def test_every_answer_has_the_fields_of_the_published_example(answers: dict[str, Answer]) -> None:
    wrong = [
        f"{call.name}: {item.path} {item.problem}"
        for call in CALLS
        for item in call.unexpected(answers[call.name].status, answers[call.name].headers, answers[call.name].body)
    ]
    assert wrong == []
    assert sum(len(call.compared(answers[call.name].status)) for call in CALLS) > 3000


def test_each_difference_that_is_accepted_is_still_there(answers: dict[str, Answer]) -> None:
    seen: dict[tuple[str, str], bool] = {}
    for call in CALLS:
        found = answers[call.name].differences(call)
        for known in call.accepted:
            key = (call.entry["title"], known)
            seen[key] = seen.get(key, False) or any(covered(item.path, {known: ""}) for item in found)
    assert [key for key, found in seen.items() if not found] == []


def test_a_field_that_is_taken_out_of_an_answer_is_missed(answers: dict[str, Answer]) -> None:
    missed: list[str] = []
    for call in CALLS:
        answer = answers[call.name]
        already = {item.path for item in answer.differences(call)}
        for path, _ in call.compared(answer.status):
            if path in already or covered(path, call.accepted):
                continue
            spoiled = call.unexpected(answer.status, answer.headers, without(answer.body, path))
            if path not in {item.path for item in spoiled}:
                missed.append(f"{call.name}: {path}")
        for name in call.facts["responses"].get(answer.status, {}).get("headers", ()):
            fewer = {key: value for key, value in answer.headers.items() if key != name}
            if not call.unexpected(answer.status, fewer, answer.body):
                missed.append(f"{call.name}: header {name}")
    assert missed == []


def test_an_error_status_is_a_difference() -> None:
    assert [item.path for item in CALLS[0].unexpected(404, {}, {})] == ["status"]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", "", 1), ("integer", 1, True), ("integer", 0, 1.0), ("number", 1, "1"), ("boolean", False, 0),
        ("date-time", "2030-01-01T00:00:00.5Z", "tomorrow"), ("duration", "PT2M", "120"), ("array", [], {}),
        ("object", {}, []), ("JobType", "Command", "command"), ("any", None, None),
    ],
)  # fmt: skip
def test_types_are_told_apart(kind: str, good: Any, bad: Any) -> None:
    call = ContractCall({"differences": {}}, {"statuses": [200], "responses": {200: {"fields": {kind: ["field"]}}}})
    assert call.unexpected(200, {}, {"field": good}) == []
    assert bool(call.unexpected(200, {}, {"field": bad})) is (kind != "any")
    assert call.unexpected(200, {}, {})


def test_each_answer_is_what_the_sdk_reads(answers: dict[str, Answer]) -> None:
    """All that has a model in an SDK is made one, with its required fields filled."""
    problems, made = [], 0
    for call in CALLS:
        answer = answers[call.name]
        name = call.facts["responses"].get(answer.status, {}).get("model", "")
        if not name or name in _NOT_IN_THE_SDK or call.entry["folder"].startswith(_WITHOUT_SDK):
            continue
        several = name in _LISTS or "PaginatedResult" in name
        bodies = answer.body.get("value", answer.body.get("nodes")) if several else [answer.body]
        for body in bodies:
            problems += [f"{call.name}: {problem}" for problem in _read(_model(call.entry["folder"], name), body)]
            made += 1
    assert "\n".join(problems) == ""
    assert made > 100


def _model(folder: str, name: str) -> Any:
    from azure.ai.ml._restclient.arm_ml_service import models as ml
    from azure.keyvault.secrets._generated import models as vault
    from azure.mgmt.containerinstance import models as groups
    from azure.mgmt.web import models as web

    models = {"machinelearningservices": ml, "keyvault": vault, "containerinstance": groups, "web": web}[folder]
    if name in _LISTS:
        return getattr(models, _LISTS[name])
    # The SDK's names are shorter than those of the specification.
    short = re.sub(r"(Tracked)?Resource(ArmPaginatedResult)?$", "", name)
    return getattr(models, name if hasattr(models, name) else short)


def _read(model: Any, body: Json) -> list[str]:
    """Problems of a model that is made of an answer."""
    older = hasattr(model, "from_dict")
    return list(_empty(model.from_dict(body) if older else model._deserialize(body, []), model.__name__))


def _empty(value: Any, path: str) -> Iterator[str]:
    """Required fields of a model that are empty, with all that it holds."""
    if isinstance(value, list):
        for item in value:
            yield from _empty(item, f"{path}[]")
    required: dict[str, bool] = {}
    if isinstance(getattr(value, "_attribute_map", None), dict):  # of the older generator
        rules = value._validation
        required = {name: rules.get(name, {}).get("required", False) for name in value._attribute_map}
    elif fields := getattr(value, "_attr_to_rest_field", None):
        notes: Json = {}
        for base in reversed(type(value).__mro__):
            notes |= inspect.get_annotations(base)
        # An annotation is a text, or a union with None.
        required = {
            name: not re.search("Optional|NoneType", str(notes[name])) and item._visibility != ["read"]
            for name, item in fields.items()
        }
    for name, must in required.items():
        content = getattr(value, name)  # makes it what the model says; raises where it cannot be
        if content is None and must and name not in _NEVER_SHOWN:
            yield f"{path}.{name} is required"
        yield from _empty(content, f"{path}.{name}")


def test_every_route_is_called_or_has_no_example(running_cloud: tuple[EmulatedCloud, Path]) -> None:
    content = yaml.safe_load((FOLDER / "calls.yml").read_text(encoding="utf-8"))
    unpublished = {
        re.compile(pattern.replace("{", r"\{").replace(r"-9-]\{36}", "-9-]{36}")): 0
        for pattern in content["unpublished"]
    }
    routes = [item for item in running_cloud[0].routes() if isinstance(item, Route)]
    called = {_called(routes, call) for call in CALLS}
    for item in routes:
        for method in sorted((item.methods or set()) - {"HEAD"}):
            if (method, item.path) in called:
                continue
            fitting = [pattern for pattern in unpublished if pattern.fullmatch(f"{method} {item.path}")]
            assert fitting, f"{method} {item.path} is neither called in calls.yml nor listed there as unpublished"
            unpublished[fitting[0]] += 1
    assert [pattern.pattern for pattern, used in unpublished.items() if not used] == []


def _called(routes: list[Route], call: ContractCall) -> tuple[str, str]:
    path, method = (call.entry.get("prefix", "") + call.entry["path"]).split("?")[0], call.entry["method"]
    scope = {"type": "http", "path": path, "method": method, "root_path": ""}
    return method, next(item.path for item in routes if item.matches(scope)[0] == Match.FULL)


def test_the_facts_are_those_of_the_calls() -> None:
    assert sorted(facts()["calls"]) == sorted(call.name for call in CALLS)
    for call in CALLS:
        version = call.entry.get("published", call.entry["version"])
        assert f"/{version}/" in call.facts["example"], call.name


def test_the_versions_are_those_that_the_sdk_sends() -> None:
    from azure.ai.ml._utils._registry_utils import REGISTRY_DATAPLANE_API_VERSION
    from azure.keyvault.secrets._shared.client_base import DEFAULT_VERSION

    sent = sdk_versions()
    calls = {(call.entry["method"], _shape(call.entry["path"])): call.entry["version"] for call in CALLS}
    wrong = {key: (calls[key], version) for key, version in sent.items() if key in calls and calls[key] != version}
    assert wrong == {}
    assert len(calls.keys() & sent.keys()) > 40
    rest = {call.entry["version"] for call in CALLS if call.entry["title"] in ("Assets of registries", "Key Vault")}
    assert rest == {REGISTRY_DATAPLANE_API_VERSION, DEFAULT_VERSION.value}


def _shape(path: str) -> str:
    """A path without the names in it."""
    parts = path.split("?")[0].strip("/").split("/")
    return "/".join(
        part if number % 2 == 0 or part.startswith("Microsoft.") else "*" for number, part in enumerate(parts)
    )


def test_the_readme_has_the_tables(answers: dict[str, Answer]) -> None:
    hint = "run: python -m testing.emulator.contract_calls"
    assert written_tables() == tables(answers), hint


def test_rows_of_lists_are_held_against_one_resource() -> None:
    lists = [call for call in CALLS for response in call.facts["responses"].values() if "rows" in response]
    assert len(lists) > 20
    assert all(
        path.startswith(ROWS)
        for call in lists
        for path, kind in call.compared(200)
        if "properties" in path and kind != "required"
    )
