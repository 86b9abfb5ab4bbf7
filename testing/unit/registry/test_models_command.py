"""``mlops models``: what is printed, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.run_services import TOKEN, run_services
from typer.testing import CliRunner

from vision_mlops.cli.jobs import pipeline
from vision_mlops.cli.models.models import app
from vision_mlops.core.errors import ConfigError, DeploymentError, MlopsError, RegistryError
from vision_mlops.registry.model_versions import HASH_TAG

MakeBundle = Callable[..., Path]
_GITHUB = "https://api.github.com/repos/owner/name/dispatches"


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _json(*arguments: str) -> Any:
    return json.loads(_run(*arguments, "--json"))


@pytest.fixture
def two_versions(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> Path:
    for seed, accuracy in enumerate((0.5, 0.75)):
        metrics = tmp_path / f"{seed}.json"
        metrics.write_text(json.dumps({"accuracy": accuracy}))
        verdict = tmp_path / "verdict.json"
        verdict.write_text(json.dumps({"decision": "promote" if seed else "reject", "reasons": []}))
        bundle = str(plain_bundle(seed))
        _run("register", "--bundle", bundle, "--name", "textile", "--metrics", str(metrics), "--verdict", str(verdict))
    return store


def test_register_promote_list_show(two_versions: Path) -> None:
    assert [row["version"] for row in _json("list", "textile")] == [1, 2]
    assert "textile@champion is textile:2" in _run("promote", "textile")
    assert _json("list") == [{"name": "textile", "versions": 2, "latest": 2, "champion": 2, "champion_accuracy": 0.75}]
    shown = _json("show", "textile@champion")
    assert (shown["reference"], shown["verdict"], shown["metrics"]) == ("textile:2", "promote", {"accuracy": 0.75})
    assert "champion" in _run("show", "textile")
    assert "textile" in _run("list")


@pytest.mark.slow
def test_promote_refuses_and_is_forced(two_versions: Path) -> None:
    with pytest.raises(RegistryError, match="its verdict is reject"):
        _run("promote", "textile:1")
    _run("promote", "textile:2")
    assert "(before: textile:2)" in _run("promote", "textile:1", "--force")


def test_compare(two_versions: Path) -> None:
    compared = _json("compare", "textile:1", "textile:2")
    assert compared["metrics"] == [{"metric": "accuracy", "a": 0.5, "b": 0.75, "difference": 0.25}]
    assert "0.25" in _run("compare", "textile:1", "textile")


def test_download_and_explain(two_versions: Path, tmp_path: Path) -> None:
    assert "wrote textile:2 to" in _run("download", "textile", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "bundle.json").is_file()
    text = _run("explain", "textile:2")
    assert "no alias" in text, "long lines are not cut"
    for word in ("data", "run", "bundle", "evaluation", "verdict", "registry", "accuracy 0.7500"):
        assert word in text
    chain = _json("explain", "textile:2")["chain"]
    assert [link["step"] for link in chain] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]


def test_register_with_promote(store: Path, plain_bundle: MakeBundle) -> None:
    printed = _run("register", "--bundle", str(plain_bundle()), "--name", "textile", "--promote")
    assert printed.strip() == "registered textile:1 (@champion)"


def test_empty_registry(store: Path) -> None:
    assert _json("list") == []
    with pytest.raises(RegistryError, match="no model 'textile' is registered"):
        _run("show", "textile")


def _digest(reference: str) -> str:
    return str(_json("show", reference)["tags"][HASH_TAG])


def test_the_verdict_is_told_to_people_and_to_pipelines(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_TEMPDIRECTORY", str(tmp_path / "agent"))
    printed = _run("verdict", "textile:2", "--azure-devops")
    assert printed.startswith("## textile:2: promote\n")
    assert "| accuracy | 0.7500 |" in printed
    assert "##vso[task.setvariable variable=model;isOutput=true]textile:2\n" in printed
    assert f"##vso[task.setvariable variable=digest;isOutput=true]{_digest('textile:2')}\n" in printed
    assert "##vso[task.setvariable variable=decision;isOutput=true]promote\n" in printed
    assert "##vso[build.addbuildtag]promote\n" in printed
    assert (tmp_path / "agent" / "Verdict-on-textile-2.md").read_text() in printed
    assert "##vso" not in _run("verdict", "textile:2")
    assert _json("verdict", "textile:1")["decision"] == "reject"


def test_reasons_of_a_verdict_are_a_table(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    verdict = tmp_path / "verdict.json"
    reasons = [
        {"check": "accuracy", "passed": True, "message": "0.99 of 1 | at least 0.9"},
        {"check": "latency", "passed": False, "message": "30 ms"},
    ]
    verdict.write_text(json.dumps({"decision": "reject", "reasons": reasons}))
    _run("register", "--bundle", str(plain_bundle()), "--name", "textile", "--verdict", str(verdict))
    printed = _run("verdict", "textile")
    assert "| accuracy | passed | 0.99 of 1 \\| at least 0.9 |\n| latency | **failed** | 30 ms |\n" in printed


@pytest.mark.parametrize(
    ("version", "fail_on", "code"), [(1, "inconclusive", 1), (1, "never", 0), (2, "inconclusive", 0)]
)
def test_a_verdict_may_end_a_pipeline(two_versions: Path, version: int, fail_on: str, code: int) -> None:
    result = CliRunner().invoke(app, ["verdict", f"textile:{version}", "--fail-on", fail_on])
    assert result.exit_code == code


def test_what_no_gate_has_judged_does_not_pass(store: Path, plain_bundle: MakeBundle) -> None:
    _run("register", "--bundle", str(plain_bundle()), "--name", "textile")
    assert _json("verdict", "textile")["decision"] == "none"
    assert CliRunner().invoke(app, ["verdict", "textile", "--fail-on", "inconclusive"]).exit_code == 1
    assert CliRunner().invoke(app, ["verdict", "textile", "--fail-on", "reject"]).exit_code == 0


@pytest.mark.slow
def test_a_digest_names_one_model_whatever_its_number(two_versions: Path) -> None:
    first, second = _digest("textile:1"), _digest("textile:2")
    assert first != second
    assert _json("verdict", "textile", "--digest", first)["model"] == "textile:1"
    assert _json("verdict", "textile:2", "--digest", second)["model"] == "textile:2"
    with pytest.raises(RegistryError, match=f"textile:2 has the digest {second}, not {first}"):
        _run("verdict", "textile:2", "--digest", first)
    with pytest.raises(RegistryError, match="no version of textile has the digest 00"):
        _run("transfer", "textile", "--digest", "00", "--to", "mlflow", "--name", "copy")
    for words in (["verdict", "textile:1"], ["transfer", "textile:1", "--to", "mlflow", "--name", "copy"]):
        with pytest.raises(RegistryError, match="the digest that textile:1 must have is empty"):
            _run(*words, "--digest", "")
    _run("transfer", "textile", "--digest", first, "--to", "mlflow", "--name", "copy")
    assert _digest("copy:1") == first
    _run("transfer", "textile:2", "--digest", "any", "--to", "mlflow", "--name", "copy")
    assert _digest("copy:2") == second


def test_a_version_starts_the_next_pipeline(
    store: Path, plain_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["register", "--bundle", str(plain_bundle()), "--name", "textile"]
    with run_services() as services:
        address = f"{services.url}/org/project/_apis/pipelines/7/runs"
        monkeypatch.setenv("SYSTEM_ACCESSTOKEN", TOKEN)
        _run(*words, "--on-registered", address)
        assert services.started == [{"templateParameters": {"registered": "textile:1"}}]
        _run(*words, "--on-registered", address)
        assert services.started[1:] == services.started[:1], "the step ran again, and says so again"
        monkeypatch.setenv("GH_TOKEN", TOKEN)
        _run(*words, "--on-registered", f"{services.url}/repos/owner/name/dispatches")
        assert services.started[2]["client_payload"] == {"registered": "textile:1"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on-registered", "https://dev.azure.com/o/p"], "is not of a pipeline or workflow"),
        (["--token-secret", "https://v.vault.azure.net/secrets/x"], "--token-secret needs --on-registered"),
        (["--on-registered", _GITHUB], "no token for GitHub.*MLOPS_GITHUB_TOKEN_SECRET"),
        (["--on-registered", _GITHUB, "--token-secret", ""], "'' is not the address of a secret"),
        (["--on-registered", _GITHUB, "--token-secret", "http://v/secrets/x"], "is not the address of a secret"),
    ],
)
def test_nothing_is_registered_where_the_next_pipeline_cannot_be_right(
    store: Path, plain_bundle: MakeBundle, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GH_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MlopsError, match=f"(?s){told}"):
        _run("register", "--bundle", str(plain_bundle()), "--name", "textile", *words)
    assert _json("list") == []


@pytest.mark.parametrize("secret", [[], ["--token-secret", ""], ["--token-secret", "https://["]])
def test_nothing_is_trained_where_the_job_could_not_start_the_next_pipeline(
    secret: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GH_TOKEN", TOKEN)  # which the job on Azure ML does not have
    done = CliRunner().invoke(pipeline.app, ["trigger", "vision-train", "--on-registered", _GITHUB, *secret])
    assert isinstance(done.exception, ConfigError)
    assert "--token-secret" in str(done.exception)
    assert "MLOPS_GITHUB_TOKEN_SECRET" in str(done.exception)


def test_what_the_image_of_a_model_is_built_from(
    store: Path, plain_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run("register", "--bundle", str(plain_bundle()), "--name", "textile")
    monkeypatch.setenv("MLOPS_AZURE_CONTAINER_REGISTRY", "cr.azurecr.io")
    context = tmp_path / "context"
    with pytest.raises(ConfigError, match="the image of the scoring server is not given"):
        _run("image", "textile", "--context", str(context))
    with pytest.raises(DeploymentError, match=r"'https://cr\.azurecr\.io' cannot be the registry"):
        _run("image", "textile", "--registry", "https://cr.azurecr.io")
    assert not context.exists()
    monkeypatch.setenv("MLOPS_AZURE_INFERENCING_IMAGE", "cr.azurecr.io/inferencing_image@sha256:12")
    printed = _run("image", "textile:1", "--context", str(context), "--azure-devops")
    name, output = printed.splitlines()
    assert name.startswith("cr.azurecr.io/mlops-textile:1-")
    assert output == f"##vso[task.setvariable variable=image;isOutput=true]{name}"
    lines = [line for line in (context / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    assert lines[:4] == [
        "ARG INFERENCING_IMAGE=cr.azurecr.io/inferencing_image@sha256:12",
        "FROM ${INFERENCING_IMAGE}",
        'ARG MODEL_NAME="textile"',
        'ARG MODEL_VERSION="1"',
    ]
    assert (context / "bundle" / "bundle.json").is_file()
    with pytest.raises(MlopsError, match="exists already"):
        _run("image", "textile", "--context", str(context))
    assert _run("image", "textile").strip() == name
