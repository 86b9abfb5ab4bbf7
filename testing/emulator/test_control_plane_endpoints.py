"""Online and batch endpoints in the loopback cloud, with the real SDK: deployments, traffic, keys, scoring, jobs."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import finished

from azureml_emulator.emulated_cloud import EmulatedCloud

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import ManagedOnlineDeployment

pytestmark = pytest.mark.slow


@pytest.fixture
def model(client: MLClient, project: Path) -> str:
    """A registered model; its folder holds two text files."""
    from azure.ai.ml.entities import Model

    client.models.create_or_update(
        Model(name="textile", version="1", path=str(project / "images"), type="custom_model")
    )
    return "azureml:textile:1"


def _online(project: Path, model: str, name: str = "blue") -> ManagedOnlineDeployment:
    from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment

    return ManagedOnlineDeployment(
        name=name,
        endpoint_name="live",
        model=model,
        code_configuration=CodeConfiguration(code=str(project / "src"), scoring_script="score.py"),
        environment="azureml:train:3",
        instance_type="Standard_DS3_v2",
        instance_count=1,
    )


@pytest.fixture
def live(client: MLClient, project: Path, model: str) -> None:
    """An online endpoint with one deployment, without traffic."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="live", auth_mode="key")).result()
    client.online_deployments.begin_create_or_update(_online(project, model)).result()


def _traffic(client: MLClient, **shares: int) -> None:
    endpoint = client.online_endpoints.get("live")
    endpoint.traffic = shares
    client.online_endpoints.begin_create_or_update(endpoint).result()


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    """A scoring request."""
    (tmp_path / "request.json").write_text('{"images": []}')
    return str(tmp_path / "request.json")


@pytest.mark.usefixtures("live")
def test_a_deployment_answers_with_its_own_script(client: MLClient, request_file: str) -> None:
    _traffic(client, blue=100)
    answer = json.loads(client.online_endpoints.invoke("live", request_file=request_file))
    assert answer == {"known": ["a.txt", "c.txt"], "length": len('{"images": []}')}
    assert "loaded 2 files" in client.online_deployments.get_logs("blue", "live", lines=10)


@pytest.mark.usefixtures("live")
def test_an_endpoint_without_traffic_does_not_answer(client: MLClient, request_file: str) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="with traffic"):
        client.online_endpoints.invoke("live", request_file=request_file)
    assert "known" in client.online_endpoints.invoke("live", request_file=request_file, deployment_name="blue")


@pytest.mark.usefixtures("live")
def test_traffic_is_shared_between_deployments(client: MLClient, project: Path, model: str) -> None:
    from azure.core.exceptions import HttpResponseError

    client.online_deployments.begin_create_or_update(_online(project, model, "green")).result()
    _traffic(client, blue=90, green=10)
    assert client.online_endpoints.get("live").traffic == {"blue": 90, "green": 10}
    with pytest.raises(HttpResponseError, match="adds up to 80 percent"):
        _traffic(client, blue=70, green=10)
    with pytest.raises(HttpResponseError, match="'red', which does not exist"):
        _traffic(client, red=100)
    with pytest.raises(HttpResponseError, match="has traffic"):
        client.online_deployments.begin_delete("green", "live").result()
    _traffic(client, blue=100)
    client.online_deployments.begin_delete("green", "live").result()
    assert [item.name for item in client.online_deployments.list("live")] == ["blue"]


def _score(cloud: EmulatedCloud, key: str) -> int:
    """Status of a scoring request that is made with a key."""
    request = urllib.request.Request(f"{cloud.url}/scoring/ws/live/score", data=b"{}", method="POST")
    request.add_header("Authorization", f"Bearer {key}")
    trust = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    try:
        with urllib.request.urlopen(request, context=trust) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.usefixtures("live")
def test_a_script_that_takes_too_long_is_ended(
    client: MLClient, cloud: EmulatedCloud, project: Path, model: str
) -> None:
    from azure.ai.ml.entities import OnlineRequestSettings

    (project / "src" / "score.py").write_text("import time\ninit = int\nrun = lambda text: time.sleep(60)\n")
    late = _online(project, model, "late")
    late.request_settings = OnlineRequestSettings(request_timeout_ms=300)
    client.online_deployments.begin_create_or_update(late).result()
    _traffic(client, late=100)
    assert _score(cloud, client.online_endpoints.get_keys("live").primary_key) == 408


@pytest.mark.usefixtures("live")
def test_keys_open_the_endpoint_until_they_are_replaced(client: MLClient, cloud: EmulatedCloud) -> None:
    _traffic(client, blue=100)
    old = client.online_endpoints.get_keys("live")
    assert (_score(cloud, old.primary_key), _score(cloud, old.secondary_key)) == (200, 200)
    client.online_endpoints.begin_regenerate_keys("live", key_type="primary").result()
    new = client.online_endpoints.get_keys("live")
    assert new.secondary_key == old.secondary_key
    assert (_score(cloud, old.primary_key), _score(cloud, new.primary_key)) == (401, 200)


@pytest.mark.parametrize("mode", ["aml_token", "aad_token"])
def test_an_endpoint_may_want_tokens(
    client: MLClient, cloud: EmulatedCloud, project: Path, model: str, request_file: str, mode: str
) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint
    from azure.core.exceptions import HttpResponseError

    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="live", auth_mode=mode)).result()
    client.online_deployments.begin_create_or_update(_online(project, model)).result()
    _traffic(client, blue=100)
    assert "known" in client.online_endpoints.invoke("live", request_file=request_file)
    assert _score(cloud, "guess") == 401
    other = client.online_endpoints.get("live")
    other.auth_mode = "key"
    with pytest.raises(HttpResponseError, match="authMode of an endpoint cannot be changed"):
        client.online_endpoints.begin_create_or_update(other)


@pytest.mark.usefixtures("live")
def test_a_script_that_fails_says_so(client: MLClient, project: Path, model: str, request_file: str) -> None:
    from azure.core.exceptions import HttpResponseError

    (project / "src" / "score.py").write_text("def init():\n    raise RuntimeError('no model here')\n")
    client.online_deployments.begin_create_or_update(_online(project, model)).result()
    with pytest.raises(HttpResponseError, match="no model here") as raised:
        client.online_endpoints.invoke("live", request_file=request_file, deployment_name="blue")
    assert raised.value.status_code == 424


@pytest.mark.usefixtures("live")
def test_an_endpoint_goes_with_its_deployments(client: MLClient) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    client.online_endpoints.begin_delete("live").result()
    with pytest.raises(ResourceNotFoundError, match="endpoint 'live'"):
        client.online_endpoints.get("live")
    with pytest.raises(ResourceNotFoundError, match="deployment 'blue'"):
        client.online_deployments.get("blue", "live")


def test_a_deployment_needs_its_endpoint_and_its_model(client: MLClient, project: Path, model: str) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="endpoint 'live'"):
        client.online_deployments.begin_create_or_update(_online(project, model))
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="live", auth_mode="key")).result()
    with pytest.raises(ResourceNotFoundError, match="model textile:9"):
        client.online_deployments.begin_create_or_update(_online(project, "azureml:textile:9"))


def test_a_kubernetes_endpoint_is_on_a_cluster(
    client: MLClient, cloud: EmulatedCloud, project: Path, model: str
) -> None:
    from azure.ai.ml import load_online_deployment
    from azure.ai.ml.entities import KubernetesOnlineEndpoint
    from azure.core.exceptions import ResourceNotFoundError

    endpoint = KubernetesOnlineEndpoint(name="kube", compute="aks", auth_mode="key")
    with pytest.raises(ResourceNotFoundError, match="compute aks"):
        client.online_endpoints.begin_create_or_update(endpoint)
    cloud.add_compute("aks")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    file = project / "kube.yml"
    file.write_text(
        f"name: blue\ntype: kubernetes\nendpoint_name: kube\nmodel: {model}\nenvironment: azureml:train:3\n"
        "code_configuration: {code: ./src, scoring_script: score.py}\n"
        "resources: {requests: {cpu: '0.1', memory: 0.5Gi}, limits: {cpu: '1', memory: 1Gi}}\n"
    )
    made = client.online_deployments.begin_create_or_update(load_online_deployment(file)).result()
    assert (made.type, made.provisioning_state) == ("Kubernetes", "Succeeded")
    assert client.online_endpoints.get("kube").compute.endswith("/computes/aks")


@pytest.fixture
def batch(client: MLClient) -> None:
    """A batch endpoint without deployments."""
    from azure.ai.ml.entities import BatchEndpoint

    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="bulk")).result()


def _component_deployment(client: MLClient, project: Path, name: str = "train") -> None:
    from azure.ai.ml.entities._load_functions import load_pipeline_component_batch_deployment

    file = project / "deployment.yml"
    file.write_text(
        f"name: {name}\nendpoint_name: bulk\ntype: pipeline\ncomponent: ./inner.yml\n"
        "settings: {default_compute: cpu-cluster, continue_on_step_failure: false}\n"
    )
    deployment = load_pipeline_component_batch_deployment(file)
    client.batch_deployments.begin_create_or_update(deployment).result()


def _images(client: MLClient, project: Path) -> str:
    from azure.ai.ml.entities import Data

    client.data.create_or_update(Data(name="images", version="1", path=str(project / "images"), type="uri_folder"))
    return "azureml:images:1"


@pytest.mark.usefixtures("batch")
def test_invoking_a_component_deployment_starts_its_pipeline(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml import Input

    _component_deployment(client, project)
    given = {"raw": Input(type="uri_folder", path=_images(client, project))}
    started = client.batch_endpoints.invoke("bulk", deployment_name="train", inputs=given, experiment_name="again")
    job = finished(cloud, str(started.name))
    found = rehearsal.definition()
    assert list(found["jobs"]) == ["prep", "fit"]
    assert found["inputs"]["raw"]["path"] == "./data/raw/images"
    assert client.jobs.get(job.name).experiment_name == "again"
    assert [item.name for item in client.batch_endpoints.list_jobs("bulk")] == [job.name]
    assert [item.name for item in client.batch_deployments.list_jobs("bulk", name="train")] == [job.name]
    assert list(client.batch_deployments.list_jobs("bulk", name="other")) == []


@pytest.mark.usefixtures("batch")
def test_an_invocation_without_a_required_input_is_refused(client: MLClient, project: Path) -> None:
    from azure.ai.ml import Input
    from azure.core.exceptions import HttpResponseError

    _component_deployment(client, project)
    with pytest.raises(HttpResponseError, match="needs raw"):
        client.batch_endpoints.invoke("bulk", deployment_name="train")
    given = {"raw": Input(type="uri_folder", path=_images(client, project)), "x": Input(type="string", default="1")}
    with pytest.raises(HttpResponseError, match="does not know x"):
        client.batch_endpoints.invoke("bulk", deployment_name="train", inputs=given)


@pytest.mark.usefixtures("batch")
def test_the_default_deployment_takes_what_names_none(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml import Input
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    _component_deployment(client, project)
    given = Input(type="uri_folder", path=_images(client, project))
    with pytest.raises(ResourceNotFoundError, match="a default deployment"):
        client.batch_endpoints.invoke("bulk", input=given)
    endpoint = client.batch_endpoints.get("bulk")
    endpoint.defaults = {"deployment_name": "other"}
    with pytest.raises(HttpResponseError, match="'other' does not exist"):
        client.batch_endpoints.begin_create_or_update(endpoint)
    endpoint.defaults = {"deployment_name": "train"}
    client.batch_endpoints.begin_create_or_update(endpoint).result()
    finished(cloud, str(client.batch_endpoints.invoke("bulk", input=given).name))
    assert rehearsal.definition()["inputs"]["raw"]["type"] == "uri_folder"
    with pytest.raises(HttpResponseError, match="is the default deployment"):
        client.batch_deployments.begin_delete("train", "bulk").result()


@pytest.mark.usefixtures("batch")
def test_a_model_deployment_scores_a_folder(
    client: MLClient, cloud: EmulatedCloud, project: Path, model: str, rehearsal: Rehearsal
) -> None:
    import yaml
    from azure.ai.ml import Input
    from azure.ai.ml.entities._load_functions import load_model_batch_deployment

    from vision_mlops.jobs.definitions.linter.linter import lint

    file = project / "deployment.yml"
    file.write_text(
        f"name: score\nendpoint_name: bulk\ntype: model\nmodel: {model}\nenvironment: azureml:train:3\n"
        "compute: azureml:cpu-cluster\ncode_configuration: {code: ./src, scoring_script: score.py}\n"
        "resources: {instance_count: 1}\nsettings: {mini_batch_size: 3, output_file_name: predictions.csv}\n"
    )
    client.batch_deployments.begin_create_or_update(load_model_batch_deployment(file)).result()
    given = Input(type="uri_folder", path=_images(client, project))
    started = client.batch_endpoints.invoke("bulk", deployment_name="score", input=given)
    finished(cloud, str(started.name))
    order, found = rehearsal.orders[0], rehearsal.definition()
    assert lint([order.definition]).errors == []
    component = yaml.safe_load((order.definition.parent / found["jobs"]["batchscoring"]["component"]).read_text())
    assert (component["mini_batch_size"], component["task"]["entry_script"]) == ("3", "score.py")
    folder = Path(found["jobs"]["batchscoring"]["environment_variables"]["AZUREML_MODEL_DIR"])
    assert (folder / "images" / "a.txt").read_text() == "a"


@pytest.mark.usefixtures("batch")
def test_a_batch_endpoint_wants_a_token_for_the_service(cloud: EmulatedCloud) -> None:
    from azure.ai.ml import Input
    from azure.core.exceptions import ClientAuthenticationError

    from azureml_emulator.identity.loopback_tokens import LoopbackCredential
    from azureml_emulator.loopback import loopback_client

    client = loopback_client(cloud, LoopbackCredential(audience=cloud.url))  # good for the resource manager only
    with pytest.raises(ClientAuthenticationError, match="InvalidAuthenticationTokenAudience"):
        client.batch_endpoints.invoke("bulk", input=Input(type="uri_folder", path="azureml://datastores/a/paths/b"))
