"""The registry on Azure ML: the contract of all registries, and what is its own: tags as aliases, and transfer."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from testing.support.places import Place
from testing.support.registry_contract import MakeBundle, RegistryContract, write_metrics, write_verdict

from azureml_emulator.rest.faults import Faults
from vision_mlops.azure.clients import ml_client, registry_client
from vision_mlops.core.errors import BundleError, ConfigError, RegistryError
from vision_mlops.core.hashing import file_hash
from vision_mlops.model.bundle import read_bundle
from vision_mlops.registry import open_registry
from vision_mlops.registry.azureml.azureml_registry import ALIAS, AzureRegistry
from vision_mlops.registry.azureml.tag_packing import TAG_LENGTH, shorten, whole
from vision_mlops.registry.lineage import HISTORY_TAG, stored_facts
from vision_mlops.registry.mlflow_registry import MlflowRegistry
from vision_mlops.registry.model_versions import HASH_TAG
from vision_mlops.registry.registry_transfer import transfer


@pytest.fixture
def registry(place: Place) -> AzureRegistry:
    if place.cloud is None:
        pytest.skip("these tests need a workspace without models")
    return AzureRegistry(lambda: place.client, f"workspace {place.settings.workspace_name}")


@pytest.fixture
def shared(place: Place) -> AzureRegistry:
    name = place.loopback.registry
    return AzureRegistry(lambda: registry_client(place.settings, name=name), f"registry {name}")


class TestWorkspace(RegistryContract):
    """Models of a workspace."""

    @pytest.fixture
    def registry(self, registry: AzureRegistry) -> AzureRegistry:
        return registry


@pytest.mark.slow
class TestSharedRegistry(RegistryContract):
    """Models of an Azure ML registry."""

    @pytest.fixture
    def registry(self, shared: AzureRegistry) -> AzureRegistry:
        return shared


def tags_of(place: Place, version: int) -> dict[str, str]:
    return dict(place.client.models.get("textile", str(version)).tags)


def retag(place: Place, version: int, change: Callable[[dict[str, str]], None]) -> None:
    """Edit tags as a person can in Azure ML studio."""
    model = place.client.models.get("textile", str(version))
    change(model.tags)
    place.client.models.create_or_update(model)


def test_a_version_is_a_custom_model_with_short_tags(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    classes = {f"class {number}": {"recall": number / 97} for number in range(90)}
    bundle = plain_bundle()
    registry.register(bundle, "textile", metrics=write_metrics(tmp_path, 0.5, per_class=classes))
    model = place.client.models.get("textile", "1")
    assert (model.type, model.stage) == ("custom_model", "Development")
    assert model.properties == {HASH_TAG: file_hash(bundle / "bundle.json")}
    assert model.path.endswith("/bundle")
    assert len(model.tags) <= 50
    assert max(len(value) for value in model.tags.values()) <= TAG_LENGTH
    assert model.tags["accuracy"] == "0.5"
    registry.promote("textile", 1)
    assert place.client.models.get("textile", "1").stage == "Production"


def test_an_alias_is_on_one_version(place: Place, registry: AzureRegistry, plain_bundle: MakeBundle) -> None:
    for seed in range(3):
        registry.register(plain_bundle(seed), "textile", aliases=["champion"])
    holders = [version for version in (1, 2, 3) if f"{ALIAS}champion" in tags_of(place, version)]
    assert holders == [3]
    assert tags_of(place, 3)[f"{ALIAS}champion"].startswith("3 20")
    stages = [place.client.models.get("textile", str(version)).stage for version in (1, 2, 3)]
    assert stages == ["Development", "Development", "Production"]


@pytest.mark.slow
def test_a_crash_between_the_two_steps_leaves_one_champion(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, faults: Faults
) -> None:
    for seed in range(2):
        registry.register(plain_bundle(seed), "textile", aliases=["champion"] if seed == 0 else [])
    # The second write, that which takes the tag from version 1, fails for good.
    before = place.count("/models/", "PUT")
    with pytest.raises(RegistryError, match="HTTP 403"):
        _fail_write(place, faults, "1", lambda: registry.promote("textile", 2))
    assert place.count("/models/", "PUT") - before == 2
    assert all(f"{ALIAS}champion" in tags_of(place, version) for version in (1, 2))
    assert registry.get("textile@champion").version == 2
    assert registry.get("textile:1").aliases == ()
    # The next promotion clears what was left.
    registry.register(plain_bundle(2), "textile", aliases=["champion"])
    assert [version for version in (1, 2, 3) if f"{ALIAS}champion" in tags_of(place, version)] == [3]
    assert [entry["version"] for entry in registry.history("textile")] == [1, 2, 3]


def test_a_crash_before_the_first_step_changes_nothing(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, faults: Faults
) -> None:
    for seed in range(2):
        registry.register(plain_bundle(seed), "textile", aliases=["champion"] if seed == 0 else [])
    with pytest.raises(RegistryError, match="HTTP 403"):
        _fail_write(place, faults, "2", lambda: registry.promote("textile", 2))
    assert registry.get("textile@champion").version == 1
    assert len(registry.history("textile")) == 1


def _fail_write(place: Place, faults: Faults, version: str, call: Callable[[], Any]) -> None:
    faults.fail(version, status=403, code="AuthorizationFailed", method="PUT", retry_after=None)
    call()
    raise AssertionError(f"no request was made about version {version}: {place.loopback.seen('/models/')}")


def test_tags_that_a_person_edited_do_no_harm(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    for seed in range(2):
        registry.register(plain_bundle(seed), "textile", aliases=["champion"])
    retag(place, 1, lambda tags: tags.update({f"{ALIAS}champion": "mine", HASH_TAG: "changed", HISTORY_TAG: "{"}))
    assert registry.get("textile@champion").version == 2
    assert [entry["version"] for entry in registry.history("textile")] == [2]
    registry.download("textile:1", tmp_path / "out")  # its digest is that of the properties
    registry.promote("textile", 1)
    assert registry.get("textile@champion").version == 1


def test_versions_of_other_tools_are_left_alone(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    from azure.ai.ml.entities import Model

    (tmp_path / "model.pkl").write_bytes(b"x")
    place.client.models.create_or_update(Model(name="textile", version="beta", path=str(tmp_path / "model.pkl")))
    place.client.models.create_or_update(Model(name="textile", version="1", path=str(tmp_path / "model.pkl")))
    assert [version.version for version in registry.versions("textile")] == [1]
    with pytest.raises(RegistryError, match=r"textile:1 in workspace ws contains no model bundle"):
        registry.download("textile:1", tmp_path / "out")
    assert registry.register(plain_bundle(), "textile").version == 2


def test_a_changed_bundle_is_refused(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    version = registry.register(plain_bundle(), "textile")
    other = plain_bundle(1)
    blobs = place.loopback.blobs
    store, path = version.source.split("/datastores/")[1].split("/paths/")
    container = place.loopback.container(store)
    blobs.upload(other / "model.onnx", container, f"{path}/model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        registry.download("textile:1", tmp_path / "out")
    blobs.upload(other / "bundle.json", container, f"{path}/bundle.json")
    with pytest.raises(RegistryError, match=r"is not the bundle that was registered as textile:1"):
        registry.download("textile:1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_downloaded_bundles_are_kept(place: Place, registry: AzureRegistry, plain_bundle: MakeBundle) -> None:
    version = registry.register(plain_bundle(), "textile")
    folder = registry.bundle_path(version)
    before = place.count("")
    assert registry.bundle_path(version) == folder
    assert place.count("") == before


def test_threads_register_at_once(place: Place, registry: AzureRegistry, plain_bundle: MakeBundle) -> None:
    bundles = [plain_bundle(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda bundle: registry.register(bundle, "textile").version, bundles))
    assert sorted(made) == [1, 2, 3]


def test_a_number_that_was_taken_in_between_is_not_used(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, faults: Faults
) -> None:
    registry.register(plain_bundle(), "textile")
    # As if another machine had registered version 1 after this one looked for the next number.
    faults.fail("textile", status=404, code="NotFound", method="GET", times=3, retry_after=None)
    assert registry.register(plain_bundle(1), "textile").version == 2
    assert faults.pending == 0
    assert [seen.status for seen in place.loopback.seen("/models/textile", "PUT")] == [201, 409, 201]


@pytest.mark.slow
def test_throttling_and_faults_are_outlived(
    place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, faults: Faults
) -> None:
    faults.throttle("models", times=2)
    faults.fail("textile", status=503)
    faults.drop("listSecrets")
    assert registry.register(plain_bundle(), "textile", aliases=["champion"]).aliases == ("champion",)
    assert faults.pending == 0


@pytest.mark.slow
def test_from_workspace_to_workspace_through_a_registry(
    place: Place, registry: AzureRegistry, shared: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    place.loopback.add_workspace("production")
    settings = place.settings.model_copy(update={"workspace_name": "production"})
    production = AzureRegistry(lambda: ml_client(settings), "workspace production")
    bundle = plain_bundle()
    metrics, verdict = write_metrics(tmp_path, 0.8), write_verdict(tmp_path, "promote")
    registry.register(plain_bundle(1), "textile")
    first = registry.register(bundle, "textile", metrics=metrics, verdict=verdict, aliases=["champion"])
    middle = transfer(registry, "textile@champion", shared)
    last = transfer(shared, middle.reference, production, aliases=["champion"])
    assert [first.version, middle.version, last.version] == [2, 1, 1]
    assert {item.tags[HASH_TAG] for item in (first, middle, last)} == {file_hash(bundle / "bundle.json")}
    assert (last.verdict, last.metrics["accuracy"], last.aliases) == ("promote", 0.8, ("champion",))
    assert stored_facts(last)["origin"]["reference"] == "textile:2"
    production.download("textile@champion", tmp_path / "out")
    assert read_bundle(tmp_path / "out") == read_bundle(bundle)
    # The same again is the same version.
    assert transfer(registry, "textile@champion", shared).version == 1
    assert transfer(shared, "textile", production).version == 1


@pytest.mark.slow
def test_from_this_machine_to_azure_and_back(
    store: Path, place: Place, registry: AzureRegistry, plain_bundle: MakeBundle, tmp_path: Path
) -> None:
    local = MlflowRegistry()
    bundle = plain_bundle()
    local.register(bundle, "textile", verdict=write_verdict(tmp_path, "reject"))
    with pytest.raises(RegistryError, match=r"cannot become champion: its verdict is reject .*\n  -> add --force"):
        transfer(local, "textile", registry, aliases=["champion"])
    assert registry.models() == []
    assert transfer(local, "textile", registry, aliases=["champion"], force=True).aliases == ("champion",)
    assert transfer(registry, "textile", local, name="copy").reference == "copy:1"
    # Judged anew, it is the same version with another verdict, and knows where it came from first.
    local.register(bundle, "textile", verdict=write_verdict(tmp_path, "promote"))
    again = transfer(local, "textile", registry)
    assert (again.version, again.verdict, again.aliases) == (1, "promote", ("champion",))
    assert stored_facts(again)["origin"]["reference"] == "textile:1"


def test_the_environment_chooses_the_registry(
    place: Place, plain_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = place.loopback
    assert isinstance(open_registry(), MlflowRegistry)
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    assert open_registry().register(plain_bundle(), "textile").version == 1
    cloud.add_workspace("other")
    assert open_registry("azureml://workspaces/other").models() == []
    assert open_registry(f"azureml://registries/{cloud.registry}").models() == []
    assert open_registry(f"azureml:/{cloud.path()}").models() == ["textile"]
    assert isinstance(open_registry("mlflow"), MlflowRegistry)
    # A job on Azure ML has nothing but the address of its tracking server.
    monkeypatch.delenv("MLOPS_REGISTRY")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{cloud.path()}")
    assert open_registry().models() == ["textile"]


@pytest.mark.slow
def test_archived_versions_are_left_out(
    place: Place,
    registry: AzureRegistry,
    plain_bundle: MakeBundle,
    mlops: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Azure ML still lists a model whose versions are all archived: it must not stand in the way of the others."""
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    for name, seed in (("gone", 0), ("half", 1), ("half", 2), ("whole", 3)):
        registry.register(plain_bundle(seed), name)
    for name in ("gone", "half"):
        place.client.models.archive(name, "1")
    code, shown, said = mlops("models", "list", "--json")
    assert code == 0, said
    assert [(row["name"], row["versions"]) for row in json.loads(shown)] == [("half", 1), ("whole", 1)]
    assert mlops("models", "list", "gone")[0] == 0
    with pytest.raises(RegistryError, match="model 'gone' has no versions; archived ones do not count"):
        registry.get("gone@latest")
    assert registry.register(plain_bundle(4), "gone").version == 2
    assert mlops("models", "list", "never")[0] == 2


@pytest.mark.parametrize(
    "address", ["azur", "azureml://", "azureml://registries/", "azureml://registries/a b", "s3://x"]
)
def test_what_is_no_registry(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_REGISTRY", address)
    with pytest.raises(RegistryError, match=r"MLOPS_REGISTRY='.*' is not a known registry\n  -> use mlflow, azure"):
        open_registry()


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZUREML_WORKSPACE_NAME"):
        open_registry("azure")


def test_a_missing_workspace_is_worded(place: Place) -> None:
    _ = place.loopback
    with pytest.raises(RegistryError, match=r"workspace nowhere: models: .*\n  -> check AZUREML_WORKSPACE_NAME"):
        open_registry("azureml://workspaces/nowhere").models()


@pytest.mark.parametrize("length", [10, 300, 50_000])
def test_long_tags_come_back_whole(length: int) -> None:
    value = json.dumps({"numbers": [number % 100 for number in range(length)]})
    tags = {"short": "x", "mlops.lineage": value}
    short = shorten(tags)
    assert max(len(item) for item in short.values()) <= TAG_LENGTH
    assert whole(short) == tags
    # Parts that are left from a longer value before do not disturb.
    if len(value) > TAG_LENGTH:
        assert whole({**short, "mlops.lineage.99": "old"}) == tags


def test_facts_that_do_not_fit_lose_the_run_first() -> None:
    import random

    noise = random.Random(0).randbytes(40_000).hex()
    tags = {"mlops.lineage": json.dumps({"run": {"params": noise}, "verdict": {"decision": "promote"}})}
    assert json.loads(whole(shorten(tags))["mlops.lineage"]) == {"verdict": {"decision": "promote"}}
    broken = shorten({"mlops.lineage": json.dumps(list(range(3000)))})
    del broken["mlops.lineage.0"]
    assert "mlops.lineage" not in whole(broken)
