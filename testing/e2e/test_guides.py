"""All guides: their blocks keep to the convention, their links lead somewhere, and each is run by a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.support.guide_blocks import ROOT, blocks_of, broken_links
from testing.support.guide_list import BY_ITSELF, INDEX, REFERENCE, STORY
from testing.support.guide_run import GuideError, GuideRun
from testing.support.kubernetes_balancer import free_port

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted(DOCS.rglob("*.md"))]
GUIDES = sorted((DOCS / "how_to").glob("*.md"))


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def problems(document: Path) -> list[str]:
    return [problem for block in blocks_of(document) for problem in block.problems()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_blocks_keep_to_the_convention(document: Path) -> None:
    assert problems(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_each_guide_is_run_once() -> None:
    ran = [*STORY, *REFERENCE, *BY_ITSELF]
    assert len(ran) == len(set(ran))
    assert {guide.name for guide in GUIDES} == set(ran)


def test_each_guide_is_on_the_first_page() -> None:
    text = INDEX.read_text(encoding="utf-8")
    assert [guide.name for guide in GUIDES if f"](how_to/{guide.name})" not in text] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```\nmlops run\n```\n", "is a command"),
        ("```\n$ az login\n```\n", "is a command"),
        ("```\nMLOPS_X=1 mlops app\n```\n", "is a command"),
        ("```sh\nls\n```\n", "write bash"),
        ('```bash title="on azure"\nls\n```\n', "unknown title 'on azure'"),
        ('```bash title="Needs Azure"\nmlops runn --workload a\n```\n', "no command 'mlops runn'"),
        ('```bash title="Needs Azure"\nmlops run --workloads a\n```\n', "No such option: --workloads"),
        ('```bash title="Needs Azure"\naz account shows\n```\n', "misspelled"),
        ('```bash title="Installation"\nmake demonstration\n```\n', "no target 'demonstration'"),
        ('```bash title="Installation"\nmlops run --workload textile\n```\n', "does not begin with"),
        ('```yaml title="a.yml"\na: 1\n```\nSave it as `a.yml`.\n', "has to name a.yml"),
        ('```bash title="In another terminal"\nmlops app --port 1\n```\n', "has to name another terminal"),
    ],
)
def test_what_the_convention_refuses(tmp_path: Path, text: str, problem: str) -> None:
    document = tmp_path / "guide.md"
    document.write_text(text)
    assert problem in "\n".join(problems(document))
    assert "guide.md:2" in problems(document)[0]


@pytest.mark.parametrize("text", ["```bash\nls\n", "```bash {.here}\nls\n```\n"])
def test_blocks_that_are_not_understood(tmp_path: Path, text: str) -> None:
    document = tmp_path / "guide.md"
    document.write_text(text)
    with pytest.raises(ValueError, match=r"guide\.md"):
        blocks_of(document)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n## A `b` and [c](d)\n")
    document = tmp_path / "guide.md"
    document.write_text("# One\n[a](gone.md) [b](other.md#a-b-and-c) [c](other.md#d) [d](#one) [e](#two)\n")
    assert list(broken_links(document)) == [
        "guide.md: gone.md does not exist",
        "guide.md: other.md has no heading #d",
        "guide.md: it has no heading #two",
    ]


@pytest.fixture
def reader(tmp_path: Path) -> GuideRun:
    return GuideRun(tmp_path / "project", {"QUICK": "yes"})


def guide(folder: Path, text: str) -> Path:
    document = folder / "guide.md"
    document.write_text(text)
    return document


def test_a_guide_is_run_as_in_one_terminal(reader: GuideRun, tmp_path: Path) -> None:
    text = """
```yaml title="below/settings.yml"
a: 1
```
```bash
mkdir there && cd there && export WORD='two words'
```
```
output
```
```bash
echo "$QUICK $WORD"; cat ../below/settings.yml; pwd
```
```bash title="Needs Azure"
az group list; exit 1
```
"""
    printed = reader.run(guide(tmp_path, text))
    assert printed[1].splitlines() == ["yes two words", "a: 1", str(reader.folder / "there")]
    assert len(printed) == 2


def test_a_block_that_fails_is_named(reader: GuideRun, tmp_path: Path) -> None:
    text = "```bash\ntrue\n```\n\n```bash\necho said\nls nowhere | cat\necho never\n```\n"
    with pytest.raises(GuideError) as failed:
        reader.run(guide(tmp_path, text))
    assert "guide.md:6 ended with exit code 2" in str(failed.value)
    assert "ls nowhere | cat" in str(failed.value)
    assert "\nsaid\n" in str(failed.value)
    assert "never" not in str(failed.value).replace("echo never", "")


@pytest.mark.slow
def test_another_terminal(reader: GuideRun, tmp_path: Path) -> None:
    port = free_port()
    server = (
        f'```bash title="In another terminal"\npython -m http.server {port} --bind 127.0.0.1 # --port {port}\n```\n'
    )
    client = f"```bash\ncurl --silent --fail http://127.0.0.1:{port}/ > page.html\n```\n"
    reader.run(guide(tmp_path, server + client))
    assert (reader.folder / "page.html").is_file()
    with pytest.raises(GuideError, match="exit code 7"):
        reader.run(guide(tmp_path, client))
    with pytest.raises(GuideError, match="does not answer"):
        reader.run(guide(tmp_path, f'```bash title="In another terminal"\nexit 3 # --port {port}\n```\n'))
    with pytest.raises(GuideError, match="give --port"):
        reader.run(guide(tmp_path, '```bash title="In another terminal"\nsleep 1\n```\n'))
