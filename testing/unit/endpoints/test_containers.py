"""The command lines of containers, what engines print, and what the images are made of."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

import vision_mlops
from vision_mlops.config.variable_settings import read_setting
from vision_mlops.containers import container_engine as module
from vision_mlops.containers.container_engine import Container, Engine, open_engine
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, EndpointStatus
from vision_mlops.endpoints.docker.container_launch import Launch, fact, own_labels
from vision_mlops.endpoints.docker.endpoint_folder import EndpointFolder
from vision_mlops.endpoints.docker.readiness import state_of
from vision_mlops.endpoints.inferencing_image import CONTEXT, baked_image, context_hash
from vision_mlops.registry import ModelVersion, Registry

ROOT = Path(vision_mlops.__file__).parents[2]
REQUEST = DeploymentRequest(
    "textile", "version-3", ModelVersion("Textile", 3, bundle_id="0123456789abcdef"), cast(Registry, None),
    DeploymentOptions(
        workers=2, cpu=1.5, memory_gb=0.5, environment={"MLOPS_SERVING__MAX_QUEUE": "3", "MLOPS_PORT": "1"}
    ),
)  # fmt: skip
LAUNCH = Launch(REQUEST, "server:1", "f" * 64, Path("/home/a/keys"), Path("/home/a/copy"))


def values(options: list[str], name: str) -> list[str]:
    return [value for option, value in pairwise(options) if option == name]


def test_a_container_gets_what_it_needs_and_no_more() -> None:
    options = LAUNCH.options(8010, trial=False, host_network=False)
    assert values(options, "--publish") == ["127.0.0.1:8010:8000"]
    assert "--read-only" in options
    assert [values(options, name) for name in ("--tmpfs", "--cap-drop", "--security-opt", "--restart")] == [
        ["/tmp"], ["ALL"], ["no-new-privileges"], ["unless-stopped"],
    ]  # fmt: skip
    assert (values(options, "--cpus"), values(options, "--memory")) == (["1.5"], [str(2**29)])
    assert values(options, "--mount") == [
        "type=bind,source=/home/a/keys,target=/run/mlops,readonly",
        "type=bind,source=/home/a/copy,target=/model,readonly",
    ]
    variables = dict(item.split("=", 1) for item in values(options, "--env"))
    assert variables == {
        "MLOPS_SERVING__MAX_QUEUE": "3", "MLOPS_SCORING_KEY_FILE": "/run/mlops/keys", "MLOPS_AUTH": "key",
        "MLOPS_MODEL_NAME": "Textile", "MLOPS_MODEL_VERSION": "3", "MLOPS_BUNDLE": "/model", "MLOPS_HOST": "0.0.0.0",
        "MLOPS_PORT": "8000",
    }  # fmt: skip
    assert LAUNCH.command() == ["--workers", "2"]
    labels = dict(item.split("=", 1) for item in values(options, "--label"))
    container = Container("id", "mlops-textile", "running", 0, "", 0, False, labels)
    assert {name: fact(container, name) for name in ("endpoint", "deployment", "model", "version", "bundle", "port")} == {
        "endpoint": "textile", "deployment": "version-3", "model": "Textile", "version": "3", "bundle": "0123456789abcdef",
        "port": "8010",
    }  # fmt: skip
    assert own_labels("textile").items() <= labels.items()


def test_a_container_on_the_network_of_the_machine_keeps_to_loopback() -> None:
    options = LAUNCH.options(8010, trial=True, host_network=True)
    assert values(options, "--publish") == []
    assert values(options, "--restart") == ["no"]
    variables = dict(item.split("=", 1) for item in values(options, "--env"))
    assert (variables["MLOPS_HOST"], variables["MLOPS_PORT"]) == ("127.0.0.1", "8010")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), False), (("--network=host",), True), (("--net", "host"), True), (("--network", "bridge"), False),
        (("--name", "host"), False),
    ],
    ids=str,
)  # fmt: skip
def test_the_network_of_the_machine_is_noticed(options: tuple[str, ...], expected: bool) -> None:
    assert Engine(["docker"], options).host_network is expected


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", {"version": 4}), ("model", {"bundle_id": "x"}), ("launch", {"image_id": "x"}),
        ("options", {"workers": 1}), ("options", {"cpu": None}), ("options", {"memory_gb": 1.0}),
        ("options", {"environment": {}}), ("launch", {"bundle": None}), ("launch", {"bundle": Path("/home/a/other")}),
        ("launch", {"run_options": ("--init",)}), ("request", {"deployment": "version-4"}),
    ],
    ids=str,
)  # fmt: skip
def test_whatever_makes_another_container_changes_its_fingerprint(part: str, change: dict[str, Any]) -> None:
    request = replace(REQUEST, **change) if part == "request" else REQUEST
    if part in ("model", "options"):
        request = replace(REQUEST, **{part: replace(getattr(REQUEST, part), **change)})
    launch = replace(LAUNCH, **change) if part == "launch" else replace(LAUNCH, request=request)
    assert launch.fingerprint != LAUNCH.fingerprint
    assert replace(LAUNCH, request=replace(REQUEST)).fingerprint == LAUNCH.fingerprint


@pytest.mark.parametrize(
    ("said", "meaning", "hint"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
         "the container engine is not running", "systemctl start docker"),
        ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
         "this user may not use", "usermod"),
        ("Error response from daemon: pull access denied for x, repository does not exist or may require 'docker login'",
         "does not release the image", "az acr login"),
        ("Error: initializing source docker://x: reading manifest 1 in x: unauthorized: access denied",
         "does not release the image", "az acr login"),
        ("Error response from daemon: manifest for x:9 not found: manifest unknown: manifest unknown",
         "the image does not exist", "name and tag"),
        ("driver failed programming external connectivity: Bind for 127.0.0.1:8000 failed: port is already allocated",
         "the port is taken", "--port"),
        ("rootlessport listen tcp 127.0.0.1:8000: bind: address already in use", "the port is taken", "--port"),
        ("write /var/lib/docker/tmp/x: no space left on device", "the disk is full", "prune"),
        ("first line\nsomething unheard of", "`docker x` failed: first line\nsomething unheard of", ""),
        ("", "`docker x` failed: no output", ""),
    ],
    ids=lambda text: text[:25],
)  # fmt: skip
def test_what_an_engine_says_is_explained(said: str, meaning: str, hint: str) -> None:
    error = module._explained("docker x", said)
    assert meaning in error.message
    assert hint in error.hint


def test_the_engine_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_CONTAINER_ENGINE", "podman --root '/a b'")
    monkeypatch.setenv("MLOPS_CONTAINER_RUN_OPTIONS", "--network=host --ulimit nofile=9:9")
    monkeypatch.setenv("MLOPS_CONTAINER_BUILD_OPTIONS", "--build-arg BASE_IMAGE=x")
    engine = open_engine()
    assert engine.words == ("podman", "--root", "/a b")
    assert engine.run_options == ("--network=host", "--ulimit", "nofile=9:9")
    assert engine.build_options == ("--build-arg", "BASE_IMAGE=x")
    assert (engine.name, engine.host_network) == ("podman", True)


@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        ("created", 0, EndpointStatus.STOPPED, "the container is created"),
        ("exited", 0, EndpointStatus.STOPPED, "the container is exited"),
        ("exited", 3, EndpointStatus.FAILED, "exit code 3"),
        ("restarting", 3, EndpointStatus.FAILED, "again and again: exit code 3"),
        ("dead", 1, EndpointStatus.FAILED, "exit code 1"),
        ("running", 0, EndpointStatus.FAILED, "http://127.0.0.1:1 cannot be reached"),
    ],
)
def test_states(status: str, code: int, expected: EndpointStatus, words: str) -> None:
    state, problem = state_of(Container("i", "n", status, code, "", 0, False, {"vision-mlops.port": "1"}))
    assert state is expected
    assert words in problem


def test_out_of_memory_is_said() -> None:
    assert state_of(Container("i", "n", "exited", 137, "", 0, True)) == (EndpointStatus.FAILED, "out of memory")


@pytest.mark.parametrize(
    ("model", "registry", "expected"),
    [
        ("textile", "", "mlops-textile:3-0123456789ab"),
        ("Stanford_Dogs", "example.azurecr.io", "example.azurecr.io/mlops-stanford_dogs:3-0123456789ab"),
        ("a.b-c", "example.azurecr.io/team/", "example.azurecr.io/team/mlops-a.b-c:3-0123456789ab"),
    ],
)
def test_names_of_images_with_a_model(model: str, registry: str, expected: str) -> None:
    assert baked_image(registry, ModelVersion(model, 3, bundle_id="0123456789abcdef")) == expected


@pytest.mark.parametrize("model", ["a-", "a._b", "a..b", "a___b"])
def test_a_name_that_no_image_can_have_is_refused(model: str) -> None:
    with pytest.raises(DeploymentError, match="cannot be the name of an image"):
        baked_image("", ModelVersion(model, 3, bundle_id="0123456789abcdef"))


@pytest.mark.parametrize(
    "registry", ["not a registry", "https://cr.azurecr.io/", "CR.azurecr.io", "/", "cr//team", "cr:x"]
)
def test_a_registry_is_a_host_and_a_path(registry: str) -> None:
    with pytest.raises(DeploymentError, match="cannot be the registry of an image"):
        baked_image(registry, ModelVersion("textile", 3, bundle_id="0123456789abcdef"))


def test_an_old_version_without_an_id_is_refused() -> None:
    with pytest.raises(DeploymentError, match="has no bundle id"):
        baked_image("", ModelVersion("textile", 3))


def test_the_registry_is_found_in_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("MLOPS_AZURE_CONTAINER_REGISTRY=of.the.file\n")
    assert read_setting("MLOPS_AZURE_CONTAINER_REGISTRY", env_file=file) == "of.the.file"
    monkeypatch.setenv("MLOPS_AZURE_CONTAINER_REGISTRY", "of.the.environment")
    assert read_setting("MLOPS_AZURE_CONTAINER_REGISTRY", env_file=file) == "of.the.environment"
    assert read_setting("MLOPS_AZURE_NOTHING", env_file=tmp_path / "none") == ""


def test_the_tag_changes_with_what_goes_into_the_image(tmp_path: Path) -> None:
    for name in (
        "environments/docker/inferencing_image/Dockerfile",
        *CONTEXT[:3],
        "requirements/serve.txt",
        "src/vision_mlops/a.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "src" / "vision_mlops" / "__pycache__").mkdir()
    first = context_hash(tmp_path)
    (tmp_path / "src" / "vision_mlops" / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    (tmp_path / "docs.md").write_text("x")
    assert context_hash(tmp_path) == first
    assert context_hash(tmp_path, ("--build-arg", "BASE_IMAGE=x")) != first
    (tmp_path / "src" / "vision_mlops" / "a.py").write_text("changed")
    assert context_hash(tmp_path) != first


def test_the_context_is_what_the_images_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:].rstrip("/") for rule in rules if rule.startswith("!")) == sorted(CONTEXT)
    for folder in ("inferencing_image", "training_image"):
        text = (ROOT / "environments" / "docker" / folder / "Dockerfile").read_text(encoding="utf-8")
        copies = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
        assert {name.rstrip("/") for names in copies for name in names} <= set(CONTEXT)


def test_the_folder_is_for_its_owner_and_its_keys_for_the_container() -> None:
    previous = os.umask(0o077)
    try:
        folder = EndpointFolder("textile")
        with folder.locked():
            folder.make_keys()
            with pytest.raises(DeploymentError, match="another command"), EndpointFolder("textile").locked():
                pass
    finally:
        os.umask(previous)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.keys_path, folder.keys_path / "keys")]
    assert modes == [0o700, 0o755, 0o644]
    keys = folder.keys()
    assert len({*keys.values()}) == 2
    folder.make_keys()
    assert folder.keys() == keys
    assert folder.rotate("secondary") == folder.keys()["secondary"] != keys["secondary"]
    assert folder.keys()["primary"] == keys["primary"]
    (folder.keys_path / "keys").unlink()
    with pytest.raises(DeploymentError, match="are not in"):
        folder.keys()
    folder.rotate("primary")
    assert len(folder.keys()) == 2
