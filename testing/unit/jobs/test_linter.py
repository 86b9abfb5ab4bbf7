"""The linter: every kind of mistake, with its line and what mends it; and files that are no definitions at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.broken_definitions import BROKEN, LINES, REFUSED_AND_WARNED_OF, SDK_REFUSES, make_mistake
from testing.support.definitions import FILES, PREP, SCHEMA, write_project

from vision_mlops.core.errors import Severity
from vision_mlops.jobs.definitions.findings import RULES, Finding
from vision_mlops.jobs.definitions.linter.linter import lint
from vision_mlops.jobs.pipelines import PIPELINES

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Valid definitions in a folder of their own."""
    return write_project(tmp_path / "project")


def found(path: Path) -> list[Finding]:
    return list(lint([path]))


@pytest.mark.parametrize("name", FILES)
def test_valid_definitions_have_no_findings(project: Path, name: str) -> None:
    assert found(project / name) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_mistake_is_found_with_its_line_and_what_mends_it(project: Path, case: str) -> None:
    name, _, _, rule, message, suggestion = BROKEN[case]
    path = make_mistake(project, case)
    text = path.read_text(encoding="utf-8")

    matching = [item for item in found(path) if item.rule == rule and message in item.message]

    assert matching, "\n".join(map(str, found(path)))
    mark = LINES.get(case, "# <-")
    assert matching[0].line == next(number for number, line in enumerate(text.splitlines(), 1) if mark in line)
    assert suggestion in matching[0].suggestion
    assert matching[0].severity is RULES[rule]
    wanted = "fit.yml" if case == "schedule of a component" else name
    assert matching[0].file == str(project / wanted)
    others = {item.rule for item in found(path) if item.severity is ERROR} - {rule}
    assert others <= {"missing-key", "missing-input", "unknown-key"}, "a second error has nothing to do with the first"


@pytest.mark.parametrize("name", FILES)
def test_without_schema_the_keys_say_what_a_file_defines(project: Path, name: str) -> None:
    path = project / name
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    path.write_text(rest, encoding="utf-8")
    kind = first.rsplit("/", 1)[-1].removesuffix(".schema.json")
    (finding,) = found(path)
    assert finding.severity is WARNING
    assert finding.message == f"$schema is missing; read as {kind}"
    assert f"/{kind}.schema.json" in finding.suggestion


@pytest.mark.parametrize("bound", ["1" + "0" * 400, "1.0e+300"])
@pytest.mark.parametrize("space", ["type: qloguniform, q: 1.0e-300", "type: quniform, q: 1.0e-300", "type: loguniform"])
def test_bounds_beyond_all_numbers_are_refused(project: Path, space: str, bound: str) -> None:
    path = project / "tune.yml"
    text = path.read_text(encoding="utf-8")
    old = "{type: loguniform, min_value: -9, max_value: -0.7}"
    assert old in text
    path.write_text(text.replace(old, f"{{{space}, min_value: 0.5, max_value: {bound}}}"), encoding="utf-8")
    assert [item.rule for item in found(path) if item.severity is ERROR] != []


def test_an_environment_in_a_file_is_checked_too(project: Path) -> None:
    path, environment = project / "fit.yml", project / "environment.yml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("azureml:env:1", "file:./environment.yml"), encoding="utf-8"
    )
    assert found(path) == []
    text = environment.read_text(encoding="utf-8").replace("{dependencies: [python=3.11]}", "none.yml")
    environment.write_text(text, encoding="utf-8")
    (finding,) = found(path)
    assert (finding.file, finding.line, finding.rule) == (str(environment), 5, "environment-missing")


def test_all_mistakes_of_a_file_are_found_at_once(project: Path) -> None:
    path = project / "pipeline.yml"
    text = (
        path.read_text(encoding="utf-8")
        .replace("compute: azureml:other", "conpute: x")
        .replace("type: uri_folder", "type: folder")
    )
    path.write_text(text.replace("continue_on_step_failure: true", "continue_on_step_failure: 3"), encoding="utf-8")
    assert {item.rule for item in found(path)} == {"ignored-key", "value"}
    assert len(found(path)) == 3


def test_a_mistake_in_a_component_is_found_through_the_pipeline_and_named_once(project: Path) -> None:
    path = project / "fit.yml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("fit ${{inputs.data}}", "fit ${{inputs.date}}"), encoding="utf-8"
    )
    findings = list(lint([project / "pipeline.yml", project / "inner.yml"]))
    assert [item.file for item in findings if item.rule == "undeclared-input"] == [str(path)]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
GARBAGE = {
    "a bomb": (BOMB.encode(), "expands to more than 20000 values"),
    "an alias in itself": (b"a: &a {b: *a}\n", "an alias contains itself"),
    "deep nesting": (b"a: " + b"[" * 5000, "not valid YAML|nested too deeply"),
    "closed deep nesting": (b"a: " + b"[" * 90 + b"]" * 90, "nested more than 50 deep"),
    "binary": (bytes(range(256)) * 4, "not UTF-8 text"),
    "control characters": (b"a: \x00\x01", "not valid YAML"),
    "a huge file": (b"a: 1\n" * 100_000, "more than 256000 bytes"),
    "nothing": (b"", "the file is empty"),
    "a list": (b"- a\n- b\n", "the file is a list"),
    "text": (b"hello", "the file is a single value"),
    "broken YAML": (b"a: [1, 2\nb: 3\n", "not valid YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", "not valid YAML"),
    "an object": (b"a: !!python/object/apply:os.system [ls]\n", "."),
    "a tag": (b"a: !!binary aGFsbG8=\n", "the tag !!binary has no meaning"),
    "keys that are no text": (b"1: a\n? [b]\n: c\n", "the key 1 is not text"),
    "a long number": (b"a: " + b"9" * 6000, "cannot be read as a number"),
    "a merge of text": (b"a: {<<: text}\n", "<< must be a mapping"),
    "unrelated keys": (b"a: 1\n", "neither \\$schema nor the keys say"),
    "a schema that is a list": (b"$schema: [a]\n", "neither \\$schema nor the keys say"),
    "wrong shapes": (f"$schema: {SCHEMA}/pipelineJob.schema.json\njobs: [1]\ninputs: 3\n".encode(), "is not a mapping"),
    "empty steps": (f"$schema: {SCHEMA}/pipelineJob.schema.json\njobs: {{a: null}}\n".encode(), "null is not a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("content", ["a: 1\nb: [x\n", "a: 1\nb: {x: 1\n\n", "a: 1\nb: 'x\n\n"])
def test_what_is_not_closed_is_reported_where_it_opens(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(content)
    (finding,) = lint([path]).errors
    assert (finding.line, finding.suggestion) == (2, "close what opens on this line")
    assert "stream end" not in finding.message
    path.write_text("a: 1\nb: {x: 1,\n\n")
    (finding,) = lint([path]).errors
    assert (finding.line, finding.suggestion) == (2, "fix this line")


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(tmp_path: Path, case: str) -> None:
    content, message = GARBAGE[case]
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    findings = lint([path])
    assert any(re.search(message, item.message) for item in findings.errors), list(map(str, findings))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "does not exist" in found(tmp_path / "none.yml")[0].message
    assert "is a folder" in found(tmp_path)[0].message
    assert "is not a file" in found(Path(os.devnull))[0].message
    (missing,) = found(Path("count"))
    assert (missing.message, "for a job of this name, use `mlops job list`" in missing.suggestion) == (
        "the file does not exist",
        True,
    )


@pytest.mark.parametrize("name", sorted(path.relative_to(PIPELINES).as_posix() for path in PIPELINES.rglob("*.yml")))
def test_the_definitions_of_an_installed_package_have_no_findings(tmp_path: Path, name: str) -> None:
    """There is no project above them; what they may point to is the package."""
    installed = tmp_path / "site-packages" / "vision_mlops" / "jobs" / "pipelines"
    shutil.copytree(PIPELINES, installed)
    (tmp_path / "data" / "examples").mkdir(parents=True)  # which one of them names
    assert found(installed / name) == []
    (installed / "components" / "outside.yml").write_text(
        (installed / "components" / "score-batch.yml").read_text().replace("../batch", "../..")
    )
    assert "is outside of the project" in found(installed / "components" / "outside.yml")[0].message


def test_merge_keys_and_aliases_are_read(project: Path) -> None:
    path = project / "pipeline.yml"
    text = path.read_text(encoding="utf-8")
    text = text.replace(
        "inputs:\n      raw: ${{parent.inputs.images}}",
        "inputs:\n      <<: {raw: '${{parent.inputs.images}}', mode: fast}",
    )
    path.write_text(text, encoding="utf-8")
    assert found(path) == []


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vision_mlops", "job", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.slow
def test_the_command_prints_findings_and_ends_with_2(project: Path) -> None:
    done = run("lint", "pipeline.yml", "job.yml", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "ok: 2 files without findings\n")
    path = project / "pipeline.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("share: 0.25", "share: 1.5"), encoding="utf-8")
    done = run("lint", "pipeline.yml", cwd=project)
    assert done.returncode == 2
    assert done.stdout == (
        "pipeline.yml:20: error[input-range]: step 'prep': input 'share': 1.5 is above max\n  -> use a value in 0 to 1\n"
    )
    done = run("lint", "--json", "pipeline.yml", cwd=project)
    assert done.returncode == 2
    assert json.loads(done.stdout)[0]["line"] == 20


def test_warnings_alone_end_with_0(project: Path) -> None:
    path = project / "fit.yml"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[1:]), encoding="utf-8")
    done = run("lint", "fit.yml", cwd=project)
    assert done.returncode == 0
    assert "fit.yml:1: warning[schema]" in done.stdout
    assert done.stderr == "0 errors, 1 warning\n"


@pytest.mark.slow
def test_show_of_a_broken_file_names_the_first_mistake(project: Path) -> None:
    path = project / "pipeline.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("prep.outputs", "perp.outputs"), encoding="utf-8")
    done = run("show", "pipeline.yml", cwd=project)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: pipeline.yml:26: ${{parent.jobs.perp.outputs.prepped}}: the pipeline has no step"
    )
    assert "Traceback" not in run("show", "environment.yml", cwd=project).stderr


TAGGED = PREP.replace(
    "name: prep\n", "name: prep\ntags: {mlops.reads.mode: 'gat, data', mlops.reads.mod: data, owner: me}  # <-\n"
)


def test_tags_with_wrong_words_are_warned_of(project: Path) -> None:
    (project / "prep.yml").write_text(TAGGED, encoding="utf-8")
    for file in ("prep.yml", "pipeline.yml"):
        findings = list(lint([project / file], sections=("data", "gate")))
        assert [(item.severity, item.rule, item.line) for item in findings] == [(WARNING, "tag", 4)] * 2
        section, name = findings
        assert "'mlops.reads.mode' names 'gat', which is not a section of a workload" in section.message
        assert "did you mean 'gate'?" in section.suggestion
        assert "'mlops.reads.mod' names an unknown input of this command" in name.message
        assert "did you mean 'mode'?" in name.suggestion
    assert len(found(project / "prep.yml")) == 1, "without known sections each may be one"


ROW = re.compile(r"\| `([\w-]+)` \| [^|]+ \| ([a-z ]*) ?\| [^|]+ \| (error|warning) \|")
ELSEWHERE = {"file", "path-missing", "reference", "sdk", "tag"}
"""Rules whose mistakes are no change of one line in one of the definitions; they have tests of their own."""


def rows() -> dict[str, tuple[str, str]]:
    """What the documentation says of each rule: what the SDK does, and how severe it is."""
    text = (Path(__file__).parents[3] / "docs" / "lint_rules.md").read_text(encoding="utf-8")
    return {rule: (sdk.strip(), severity) for rule, sdk, severity in ROW.findall(text)}


def test_every_rule_has_a_row_that_says_how_severe_it_is() -> None:
    assert {rule: severity for rule, (_, severity) in rows().items()} == {rule: str(RULES[rule]) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
def test_the_row_of_a_rule_says_what_the_sdk_does(rule: str) -> None:
    """The integration tests ask the SDK whether it refuses these cases and takes all others."""
    cases = [case for case in BROKEN if BROKEN[case][3] == rule]
    refused = [case for case in cases if case in SDK_REFUSES]
    words = "refuses" if refused == cases else "refuses some" if refused else "takes"
    assert rows()[rule][0] == ("" if rule in ELSEWHERE else words)
    assert bool(cases) == (rule not in ELSEWHERE), "each rule has a mistake that it finds"


@pytest.mark.parametrize("case", REFUSED_AND_WARNED_OF)
def test_what_the_sdk_refuses_is_warned_of_only_with_a_reason(case: str) -> None:
    assert case in SDK_REFUSES
    assert RULES[BROKEN[case][3]] is WARNING


@pytest.mark.slow
def test_strict_makes_warnings_errors(project: Path) -> None:
    path = project / "pipeline.yml"
    assert run("lint", "--strict", "pipeline.yml", cwd=project).returncode == 0
    text = path.read_text(encoding="utf-8").replace("continue_on_step_failure", "continue_on_step_failur")
    path.write_text(text, encoding="utf-8")
    assert run("lint", "pipeline.yml", cwd=project).returncode == 0
    done = run("lint", "--strict", "pipeline.yml", cwd=project)
    assert done.returncode == 2
    assert "warning[ignored-key]" in done.stdout
