"""What is applied to a cluster, and every `az` line that the repository tells people to use."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from testing.support.az_syntax import words
from testing.support.kubernetes_gateway import SPECS, validate
from testing.support.recording_az import SYNTAX, RefusedError, parse

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "infrastructure" / "aks"
MANIFESTS = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml"]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "infrastructure").rglob("*.md")),
]


def check(manifest: dict[str, Any], version: str) -> None:
    if manifest["kind"] in SPECS:  # of the Gateway API, which is no part of Kubernetes' own schemas
        validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_manifests_are_valid(path: Path, version: str) -> None:
    manifests = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert manifests
    for manifest in manifests:
        check(manifest, version)


def test_kustomize_builds_what_a_cluster_gets() -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    built = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    manifests = list(yaml.safe_load_all(built.stdout))
    for manifest in manifests:
        check(manifest, "1.37")
    kinds = {item["kind"] for item in manifests}
    assert kinds >= {"Namespace", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "Gateway", "HTTPRoute"}


def test_the_gateway_lets_the_endpoints_in() -> None:
    found = {
        (item["kind"], item["metadata"]["name"]): item
        for path in MANIFESTS
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    }
    gateway = found["Gateway", "mlops"]
    [listener] = gateway["spec"]["listeners"]
    selector = listener["allowedRoutes"]["namespaces"]["selector"]["matchLabels"]
    assert selector.items() <= found["Namespace", "vision"]["metadata"]["labels"].items()
    route = found["HTTPRoute", "textile"]
    parent = {"namespace": gateway["metadata"]["namespace"], "name": gateway["metadata"]["name"]}
    assert route["spec"]["parentRefs"] == [parent]
    suffix = listener["hostname"].removeprefix("*")
    assert all(host.endswith(suffix) for host in route["spec"]["hostnames"])


EXTENSION = "ml"
"""Its commands are an extension, which cannot be had from the package registry: they are not checked."""


def lines() -> list[tuple[str, str]]:
    """Commands of `az` in documents, but for those of the extension: lines of blocks, and what stands in backquotes."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        commands = [part for block in blocks for line in block.splitlines() for part in re.split(r"&&|;|\|", line)]
        commands += re.findall(r"`(az [^`\n]+ --[^`\n]+)`", text)
        found += [
            (path.name, command.split("  #")[0].strip())
            for command in commands
            if command.strip().startswith("az ") and not command.strip().startswith(f"az {EXTENSION} ")
        ]
    return found


@pytest.mark.parametrize(("name", "line"), lines())
def test_az_lines_of_documents_are_those_of_the_real_command(name: str, line: str) -> None:
    parse(shlex.split(line)[1:])


def test_commands_of_az_that_are_named_anywhere_exist() -> None:
    unknown = [said for said in words() if len(said) > 1 and not any(" ".join(said[:n]) in SYNTAX for n in range(1, 6))]
    assert [said for said in unknown if said[0] not in ("bicep", EXTENSION)] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("grup create", "misspelled or not recognized"),
        ("group create --name a --locations b", "unrecognized arguments: --locations"),
        ("group create --location b", "required: --name"),
        ("stack group create -n a -g b --action-on-unmanage all --deny-settings-mode none", "is not a valid value"),
    ],
)
def test_the_recording_az_refuses_as_the_real_one(line: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        parse(shlex.split(line))
    assert refused.value.status == 2
