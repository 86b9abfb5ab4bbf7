"""What a step tells its pipeline: the lines that Azure DevOps reads, and the files that GitHub reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_mlops.core.errors import ConfigError
from vision_mlops.devops.build_results import BuildRun, open_build


def _tell(build: BuildRun | None) -> None:
    assert build is not None
    build.output("model", "textile:3")
    build.tag("promote")
    build.summary("Verdict on textile 3", "## textile:3\n")


def test_azure_devops_reads_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    build = open_build(lines.append, {"AGENT_TEMPDIRECTORY": str(tmp_path)}, azure_devops=True, github=False)
    _tell(build)
    page = tmp_path / "Verdict-on-textile-3.md"
    assert lines == [
        "##vso[task.setvariable variable=model;isOutput=true]textile:3",
        "##vso[build.addbuildtag]promote",
        f"##vso[task.uploadsummary]{page}",
    ]
    assert page.read_text() == "## textile:3\n"


def test_a_value_cannot_become_a_command_of_the_agent(tmp_path: Path) -> None:
    lines: list[str] = []
    build = open_build(lines.append, {"AGENT_TEMPDIRECTORY": str(tmp_path)}, azure_devops=True, github=False)
    assert build is not None
    build.output("x", "50 %\n##vso[task.complete]\r")
    build.tag("a]b\n##vso[c")
    assert lines == [
        "##vso[task.setvariable variable=x;isOutput=true]50 %AZP25%0A##vso[task.complete]%0D",
        "##vso[build.addbuildtag]a-b-vso-c",
    ]
    with pytest.raises(ConfigError, match="cannot be the name of an output"):
        build.output("x;issecret=true", "1")


def test_github_reads_files(tmp_path: Path) -> None:
    outputs, page = tmp_path / "outputs", tmp_path / "page"
    outputs.write_text("earlier=1\n")
    environ = {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(page)}
    build = open_build(pytest.fail, environ, azure_devops=False, github=True)
    _tell(build)
    assert outputs.read_text() == "earlier=1\nmodel=textile:3\n"
    assert page.read_text() == "## textile:3\n\n"
    assert build is not None
    with pytest.raises(ConfigError, match="more than one line"):
        build.output("x", "1\nmodel=other:1")
    assert "other" not in outputs.read_text()


def test_outside_of_a_pipeline() -> None:
    assert open_build(pytest.fail, {}, azure_devops=False, github=False) is None
    with pytest.raises(ConfigError, match="GITHUB_OUTPUT and GITHUB_STEP_SUMMARY not set"):
        open_build(pytest.fail, {}, azure_devops=False, github=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        open_build(pytest.fail, {}, azure_devops=True, github=True)
