"""docs/configuration.md names whatever the source reads, and the generated references are written and compared whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs import configuration_reference, documentation_site, references

from vision_mlops.config.variable_settings import VariableSettings
from vision_mlops.flask_app.app_settings import PREFIX

ROOT = Path(references.__file__).parents[1]
SOURCE = ROOT / "src" / "vision_mlops"
# Of a workload: MLOPS_, a section, two underscores, and a key; and the beginnings that settings of a kind share.
WORKLOAD_KEY = re.compile(r"MLOPS_[A-Z]+__[A-Z_]+|MLOPS_([A-Z]+_)*")
# Variables of settings that have no name of their own in the source: a prefix, and the name of the field.
SETTINGS = [
    name for kind in VariableSettings.__subclasses__() for name in kind.variables() if name.startswith("MLOPS_")
]
# Refused, so that nobody takes it for a setting.
REFUSED = {"MLOPS_TRAINING"}


def variables(folder: Path) -> set[str]:
    """Names of variables in a source tree."""
    kinds = (".py", ".yml", ".yaml", ".html", ".sh", ".bicepparam")
    files = [path for path in folder.rglob("*") if path.suffix in kinds]
    found = {name for path in files for name in re.findall(r"\bMLOPS_[A-Z0-9_]*", path.read_text(encoding="utf-8"))}
    return {name for name in found if not WORKLOAD_KEY.fullmatch(name)} - REFUSED


def documented(text: str) -> set[str]:
    """Names in the first column of a table."""
    return set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", text, re.MULTILINE))


def test_every_variable_that_the_source_reads_is_documented() -> None:
    found = variables(SOURCE) | set(SETTINGS)
    assert len(found) > 60
    assert found - documented(configuration_reference.reference()) == set()


@pytest.mark.parametrize("folder", ["infrastructure", "ado_pipelines", ".github", "environments"])
def test_every_variable_outside_of_the_source_is_documented(folder: str) -> None:
    documented_here = documented(configuration_reference.reference())
    assert {name for name in variables(ROOT / folder) if not name.startswith(PREFIX)} - documented_here == set()


def test_the_variables_of_the_guides_are_documented() -> None:
    """All but the one that lets tests use a subscription."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "how_to").glob("*.md"))
    found = {name for name in re.findall(r"\bMLOPS_[A-Z0-9_]*", text) if not WORKLOAD_KEY.fullmatch(name)} - REFUSED
    assert len(found) > 40
    assert found - {"MLOPS_LIVE_AZURE"} - documented(configuration_reference.reference()) == set()


def test_a_variable_that_is_set_by_hand_is_in_one_table() -> None:
    outside = {name for _, variables in configuration_reference.OUTSIDE.values() for name in variables}
    assert not outside & (configuration_reference.SET_FOR_YOU.keys() | configuration_reference.VARIABLES.keys())


def test_no_section_of_the_navigation_is_there_twice() -> None:
    sections = re.findall(r"^- (\w.*)$", documentation_site.navigation(), re.MULTILINE)
    assert "Reference" in sections
    assert sorted(sections) == sorted(set(sections))


def test_nothing_is_documented_that_the_source_does_not_read() -> None:
    known = documented(configuration_reference.reference())
    apps = {name for name in known if name.startswith(PREFIX)}  # their names are put together
    read = "\n".join([*SETTINGS, *(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))])
    pipelines = "\n".join(
        path.read_text(encoding="utf-8")
        for pattern in (
            "ado_pipelines/**/*.yml",
            ".github/**/*.yml",
            "infrastructure/**/*.bicepparam",
            "infrastructure/*.sh",
            "environments/docker/*.sh",
        )
        for path in ROOT.glob(pattern)
    )
    assert {name for name in known - apps if name not in read and name not in pipelines} == set()


def test_a_section_is_linked_and_has_its_keys() -> None:
    text = configuration_reference.reference()
    assert "| `augment` | [section](#trainingaugment) |" in text
    section = text.partition("### `training.augment`")[2].partition("###")[0]
    assert "| `crop_scale` | number above 0 to 1 | `1.0` |" in section
    assert "| `MLOPS_CUSTOM_VISION_TRAINING_KEY` | secret |  |" in text
    for anchor in re.findall(r"\[section\]\(#(\w+)\)", text):
        assert anchor in {heading.replace(".", "") for heading in re.findall(r"^### `([\w.]+)`", text, re.MULTILINE)}


def test_a_stale_reference_is_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(references, "__file__", str(tmp_path / "references.py"))
    monkeypatch.setattr(references, "REFERENCES", {"a.md": lambda: "new\n", "b.md": lambda: "same\n"})
    (tmp_path / "b.md").write_text("same\n")
    monkeypatch.setattr("sys.argv", ["references", "--check"])
    assert references.main() == 1
    assert capsys.readouterr().err == "docs/a.md is out of date: run `make docs`\n"
    assert not (tmp_path / "a.md").exists()
    monkeypatch.setattr("sys.argv", ["references"])
    assert references.main() == 0
    assert (tmp_path / "a.md").read_text() == "new\n"
