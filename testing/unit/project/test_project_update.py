"""`copier update` brings the next tag of the template into a project that was edited."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from copier import run_copy, run_update
from testing.support.projects import commit, git, project, sources

from vision_mlops.project import new_project

pytestmark = pytest.mark.slow


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the template with two tags; the second changes files that are linked, included, and its own."""
    folder = sources(tmp_path_factory.mktemp("template"))
    commit(folder, "One")
    git(folder, "tag", "v0.1.0")
    edit(folder / ".github/workflows/ci.yml", "timeout-minutes: 30", "timeout-minutes: 40")
    edit(folder / ".github/workflows/model_training.yml", "'0 3 * * 1'", "'0 5 * * 1'")
    edit(folder / "template/Makefile.jinja", "WORKLOAD ?= ", "# The one that `make run` trains.\nWORKLOAD ?= ")
    edit(folder / "src/vision_mlops/config/workloads/textile.yml", "epochs: 3", "epochs: 4")
    (folder / "template" / "NEWS.md").write_text("What is new.\n", encoding="utf-8")
    commit(folder, "Two")
    git(folder, "tag", "v0.2.0")
    return folder


@pytest.fixture
def birds(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that `mlops init` of the first version made, committed."""
    origin = {"template_repository": str(template), "template_ref": "v0.1.0"}
    monkeypatch.setattr(new_project, "template_origin", lambda: origin)
    made = project(tmp_path / "birds", targets=["local", "managed"])
    commit(made, "From the template")
    return made


def test_init_and_copier_make_the_same_project(template: Path, birds: Path, tmp_path: Path) -> None:
    """Which an update relies on: it makes the old version anew, from the repository, to see what was edited."""
    other = tmp_path / "other"
    run_copy(
        str(template),
        other,
        {"name": "birds", "targets": ["local", "managed"]},
        vcs_ref="v0.1.0",
        defaults=True,
        quiet=True,
    )
    ours = {path.relative_to(birds): path for path in birds.rglob("*") if path.is_file() and ".git" not in path.parts}
    theirs = {path.relative_to(other): path for path in other.rglob("*") if path.is_file()}
    assert {name for name in ours.keys() ^ theirs.keys() if name.parts[:2] != ("pipelines", "components")} == set()
    for name, path in theirs.items():
        assert ours[name].read_bytes() == path.read_bytes(), name
        assert ours[name].stat().st_mode == path.stat().st_mode, name


def test_an_edited_project_takes_the_next_version_and_loses_no_edit(birds: Path) -> None:
    edit(birds / "workloads/birds.yml", "epochs: 3", "epochs: 9")
    edit(birds / ".github/workflows/ci.yml", "    timeout-minutes: 120", "    timeout-minutes: 90")
    edit(birds / "Makefile", "clean:  ## Remove", "shout:  ## Be heard\n\t@echo AHOY\n\nclean:  ## Remove")
    edit(birds / "tests/data_contract.yml", "global, ", "global, torn, ")
    (birds / "README.md").unlink()
    (birds / "my_code.py").write_text("def same(batch):\n    return batch\n", encoding="utf-8")
    commit(birds, "Our own")
    run_update(birds, defaults=True, overwrite=True, quiet=True)
    status = git(birds, "status", "--porcelain")
    assert "UU" not in status
    assert not list(birds.rglob("*.rej"))
    ci = (birds / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert ("timeout-minutes: 40" in ci, "timeout-minutes: 90" in ci) == (True, True)
    assert "'0 5 * * 1'" in (birds / ".github/workflows/model_training.yml").read_text(encoding="utf-8")
    makefile = (birds / "Makefile").read_text(encoding="utf-8")
    assert ("# The one that `make run` trains." in makefile, "@echo AHOY" in makefile) == (True, True)
    assert "epochs: 9" in (birds / "workloads/birds.yml").read_text(encoding="utf-8")
    assert "torn" in (birds / "tests/data_contract.yml").read_text(encoding="utf-8")
    assert (birds / "my_code.py").is_file()
    assert not (birds / "README.md").exists()
    assert (birds / "NEWS.md").is_file()
    assert "@v0.2.0" in (birds / "pyproject.toml").read_text(encoding="utf-8")
    answers = yaml.safe_load((birds / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert (answers["_commit"], answers["targets"]) == ("v0.2.0", ["local", "managed"])


def test_lines_that_both_have_changed_are_shown(birds: Path) -> None:
    edit(birds / ".github/workflows/ci.yml", "timeout-minutes: 30", "timeout-minutes: 35")
    commit(birds, "Our own")
    run_update(birds, defaults=True, overwrite=True, quiet=True)
    assert "UU .github/workflows/ci.yml" in git(birds, "status", "--porcelain")
    ci = (birds / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    before, after = ci.index("timeout-minutes: 35"), ci.index("timeout-minutes: 40")
    assert ci.index("<<<<<<<") < before < ci.index("=======") < after < ci.index(">>>>>>>")
