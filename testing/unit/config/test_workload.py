"""Workload files, the environment and ``--set``: what loads, what wins, and how each mistake is worded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.config import Workload, list_workloads, load_workload
from vision_mlops.config.workload import Serving, Split
from vision_mlops.config.workload_files import find_workload, is_shipped, load_serving, own_workload
from vision_mlops.core.errors import ConfigError

RUNNER = CliRunner()


def write(folder: Path, content: str | bytes, name: str = "mine.yml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refused(reference: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_workload(reference, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", list_workloads())
def test_shipped_workloads_load(name: str) -> None:
    workload = load_workload(name)
    assert workload.name == name
    assert workload.title
    assert load_workload(str(find_workload(name))) == workload


def test_textile_is_shipped() -> None:
    assert "textile" in list_workloads()


def test_a_file_needs_a_name_only(tmp_path: Path) -> None:
    assert load_workload(write(tmp_path, "name: mine\n")) == Workload(name="mine")
    assert load_workload(write(tmp_path, "name: mine\n", "mine.yaml")) == Workload(name="mine")


def test_dump_loads_again(tmp_path: Path) -> None:
    workload = load_workload("textile", ["training.learning_rate=2e-5"])
    assert load_workload(write(tmp_path, yaml.safe_dump(workload.model_dump()))) == workload


def test_what_has_a_floor_is_measured(tmp_path: Path) -> None:
    assert not load_workload("textile").evaluation.robustness
    floored = load_workload("textile", ["gate.min_robustness_accuracy=0.5"])
    assert floored.evaluation.robustness
    assert load_workload(write(tmp_path, yaml.safe_dump(floored.model_dump()))) == floored
    assert load_workload("textile", ["evaluation.robustness=true"]).gate.min_robustness_accuracy is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("trainig: {epochs: 2}", "unknown key 'trainig'\n  -> did you mean 'training'? Valid keys here: name, title"),
        ("training: {epoch: 2}", "unknown key 'training.epoch'\n  -> did you mean 'training.epochs'?"),
        ("training: {augment: {flip: true}}", "'training.augment.flip'\n  -> Valid keys here: horizontal_flip, "),
        ("data: {split: {trian: 1.0}}", "unknown key 'data.split.trian'\n  -> did you mean 'data.split.train'?"),
        ("7: x", "unknown key '7'"),
        ("training: {epochs: two}", "training.epochs: 'two' is not a whole number\n  -> write a whole number"),
        ("training: {epochs: '2'}", "training.epochs: '2' is text, not a whole number\n  -> write a whole number"),
        ("training: {epochs: 2.5}", "training.epochs: 2.5 is not a whole number\n  -> write a whole number"),
        ("training: {epochs: true}", "training.epochs: True is not a whole number\n  -> write a whole number"),
        ("training: {epochs: 0}", "training.epochs: 0 is below 1\n  -> write a number of at least 1"),
        ("training: {learning_rate: fast}", "training.learning_rate: 'fast' is not a number\n  -> write a number"),
        ("training: {learning_rate: true}", "training.learning_rate: True is not a number"),
        ("training: {learning_rate: 0}", "training.learning_rate: 0.0 is not above 0"),
        ("training: {learning_rate: .nan}", "training.learning_rate: nan is not a finite number"),
        ("training: {learning_rate: .inf}", "training.learning_rate: inf is not a finite number"),
        ("training: {seed: -1}", "training.seed: -1 is below 0"),
        (
            "training: {precision: fp64}",
            "training.precision: 'fp64' is not valid\n  -> did you mean 'fp32'? Valid here: auto, fp32, bf16",
        ),
        ("training: 3", "training: 3 is not a mapping\n  -> write a mapping of keys to values"),
        ("training:", "training: null is not a mapping"),
        ("model: {pretrained: maybe}", "model.pretrained: 'maybe' is not true or false"),
        ("model: {image_size: 8}", "model.image_size: 8 is below 16\n  -> write a number of at least 16"),
        ("model: {image_size: 4096}", "model.image_size: 4096 is above 1024\n  -> write a number of at most 1024"),
        (
            "model: {backbone: 18}",
            "model.backbone: 18 is not text\n  -> write text; quote it",
        ),
        ("model: {dropout: 1.5}", "model.dropout: 1.5 is above 1"),
        ("gate: {min_accuracy: -0.1}", "gate.min_accuracy: -0.1 is below 0"),
        ("gate: {significance: 1}", "gate.significance: 1.0 is not below 1\n  -> write a number below 1"),
        ("serving: {port: 70000}", "serving.port: 70000 is above 65535"),
        ("data: {source: cloud}", "data.source: 'cloud' is not valid\n  -> Valid here: bundled, folder, download"),
        ("data: {max_pixels: 200000000}", "data.max_pixels: 200000000 is above 178956970"),
        ("data: {source: download}", "data: source: download needs a section `download:` with archives"),
        ("data: {download: {archives: []}}", "data.download.archives: the list is empty\n  -> write at least 1 entry"),
        ("data: {corrupt: {blur: 1.0}}", "data: `corrupt:` is for source: bundled only"),
        ("data: {source: bundled, corrupt: {blur: 6}}", "data.corrupt.blur: 6 is above 5"),
        ("data: {source: bundled, corrupt: {jpg: 1}}", "'data.corrupt.jpg'\n  -> did you mean 'data.corrupt.jpeg'?"),
        (
            "gate: {min_robustness_accuracy: 80}",
            "gate.min_robustness_accuracy: 80 is above 1",
        ),
        ("data: {download: {archives: [{url: 'ftp://a/b'}]}}", "must be an http, https or file address"),
        (
            "data: {download: {archives: [{url: 'http://[::1/b'}]}}",
            "data.download.archives.0.url: Invalid",
        ),
        ("data: {download: {archives: [{ur: x}]}}", "data.download.archives.0.url: the key is missing\n  -> add it"),
        (
            "data: {download: {archives: [{url: 'http://a/b', shasum: x}]}}",
            "unknown key 'data.download.archives.0.shasum'\n  -> did you mean 'data.download.archives.0.sha256'?",
        ),
        (
            "data: {download: {archives: [{url: 'http://a/b'}], licens: x}}",
            "unknown key 'data.download.licens'\n  -> did you mean 'data.download.licence'?",
        ),
        ("data: {download: {archives: [{url: 'http://a/b', into: ../x}]}}", "must be a relative path with forward"),
        ("data: {download: {archives: [{url: 'http://a/b'}], label_pattern: '('}}", "not a regular expression"),
        (
            "data: {download: {archives: [{url: 'http://a/b'}], label_pattern: x}}",
            "must have one group, the class name",
        ),
        (
            "data: {download: {archives: [{url: 'http://a/b'}], splits: {test: x}}}",
            "data.download.splits.train: the key is missing",
        ),
        ("data: {split: {train: 0.8}}", "train + val + test must be 1, not 1.1"),
        ("data: {split: {train: 1, val: 0, test: 0}}", "train, val and test must each be above 0"),
        ("title: no", "title: False is not text\n  -> write text; quote it"),
        (
            "model: {pretrained: 1}",
            "model.pretrained: 1 is not true or false\n  -> write true or false",
        ),
        ("serving: {cors_origins: '*'}", '\'*\' is not a list\n  -> a list is written ["a", "b"]'),
        ("title: [a]\ngate: {min_accuracy: 2}", "title: a list is not text\n  -> write text"),
    ],
)
def test_mistakes_name_file_key_and_what_is_valid(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, f"name: mine\n{content}\n")
    text = refused(path)
    assert text.startswith(f"{path}: ")
    assert message in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "training: {epochs: 2",
            "not valid YAML: line 1: expected ',' or '}', but got '<stream end>'\n  -> fix the file",
        ),
        ("name: a\n\tb: 1\n", "not valid YAML: line 2: found character '\\t' that cannot start any token\n  -> "),
        ("name: !!python/name:os.system x\n", "not valid YAML"),
        ("name: a1\n---\nname: b1\n", "not valid YAML"),
        ("name: mine\ntitle: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
        (b"name: caf\xe9\n", "not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not "),
        ("", "must be a mapping of keys to values"),
        ("- name: mine\n", "must be a mapping of keys to values"),
        ("just text", "must be a mapping of keys to values"),
        ("title: nameless\n", "name: the key is missing\n  -> add it"),
        ("name: Mine\n", "name: 'Mine' is not valid\n  -> use 2 to 63 lower case letters, digits, '-' and '_'"),
        ("name: ../mine\n", "name: '../mine' is not valid\n  -> use 2 to 63 lower case letters, digits, '-' and '_'"),
        ("name: 12\n", "name: 12 is not text\n  -> write text"),
    ],
)
def test_broken_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    text = refused(path)
    assert text.startswith(f"{path}: ")
    assert message in text


def test_missing_workloads(tmp_path: Path) -> None:
    text = refused("textil")
    assert text.startswith("unknown workload 'textil'\n  -> did you mean 'textile'? Known: ")
    assert all(name in text for name in list_workloads())
    assert refused("nope").startswith("unknown workload 'nope'\n  -> Known: "), "nothing is like it"
    missing = str(tmp_path / "no.yml")
    assert refused(missing).startswith(f"workload file {missing} does not exist")
    (tmp_path / "folder.yml").mkdir()
    assert "does not exist" in refused(str(tmp_path / "folder.yml"))


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "name: mine\n")

    def deny(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", deny)
    assert refused(path).startswith(f"{path}: cannot be read: Permission denied")


DOWNLOAD = "data.download={archives: [{url: 'https://example.org/x.zip'}]}"
# What YAML reads as something else, or not at all.
TEXTS = (
    "no", "On", "yes", "null", "~", "", "010", "1_000", "0x10", "0o10", "1e3", "12:30:00", "2026-11-29", " leading", "[1",
    "{a}", "*x", "&x", "!x", "a: b", "a:", "#", "'", '"', "9" * 5000, "日本",
)  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["training.epochs=7"], "training.epochs", 7),
        (["training.epochs=7", "training.epochs=8"], "training.epochs", 8),
        ([" training.epochs = 7 "], "training.epochs", 7),
        (["training.learning_rate=1"], "training.learning_rate", 1.0),
        (["training.learning_rate=2e-3"], "training.learning_rate", 0.002),
        (["training.learning_rate=0.5"], "training.learning_rate", 0.5),
        (["training.augment.rotate90=true"], "training.augment.rotate90", True),
        (["training.augment={rotate90: true, contrast: 1}"], "training.augment.contrast", 1.0),
        (["training={}"], "training.epochs", 4),
        (["training={epochs: 9}", "training.batch_size=3"], "training.epochs", 9),
        (["data.path=a=b"], "data.path", "a=b"),
        (["data.path=2024"], "data.path", "2024"),
        (["data.path=photos #2"], "data.path", "photos #2"),
        (["data.path=Client: A"], "data.path", "Client: A"),
        (["title='quoted' \"twice\""], "title", "'quoted' \"twice\""),
        (["title=- [a] {b} &c *d !e %f @g `h`: "], "title", "- [a] {b} &c *d !e %f @g `h`: "),
        *((["title=" + text], "title", text) for text in TEXTS),
        ([DOWNLOAD, "data.download.licence=no"], "data.download.licence", "no"),
        ([DOWNLOAD, "data.download.max_size=null"], "data.download.max_size", None),
        (["training.epochs=7.0"], "training.epochs", 7),
        (["training.cache_prefix=False"], "training.cache_prefix", False),
        (["title=Ünïcode ✓"], "title", "Ünïcode ✓"),
        (["data.split={train: 0.5, val: 0.25, test: 0.25}"], "data.split.val", 0.25),
    ],
)
def test_overrides(overrides: list[str], key: str, expected: object) -> None:
    found: Any = load_workload("textile", overrides)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected
    assert type(found) is type(expected)


def test_an_override_keeps_its_neighbours() -> None:
    changed = load_workload("textile", ["training.epochs=7"])
    plain = load_workload("textile")
    assert changed.training == plain.training.model_copy(update={"epochs": 7})
    assert changed.model_copy(update={"training": plain.training}) == plain


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "--set 'training.epochs' is not of the form key=value"),
        ("=5", "--set '=5' is not of the form key=value"),
        ("", "--set '' is not of the form key=value"),
        ("training.epochs.x=1", "--set 'training.epochs.x=1': 'epochs' holds a value, not a section"),
        ("name.x=1", "'name' holds a value, not a section"),
        ("training={", "--set 'training={': the value is not valid YAML"),
        ("data.download.archives=" + "[" * 5000, "the value is not valid YAML"),
        ("training.epochs=" + "9" * 5000, "not a whole number"),
        ("training.epochs=1_000", "training.epochs: '1_000' is not a whole number\n  -> write a whole number"),
        ("training.epochs=0x10", "training.epochs: '0x10' is not a whole number\n  -> write a whole number"),
        ("training.learning_rate=1_0.5", "training.learning_rate: '1_0.5' is not a number"),
        ("training.cache_prefix=yes", "training.cache_prefix: 'yes' is not true or false\n  -> write true or false"),
        ("name=no #1", "name: 'no #1' is not valid\n  -> use 2 to 63 lower case letters"),
        ("training.learning_rate=" + "9" * 400, "is not a number"),
        ("training.epocs=2", "with --set training.epocs=2: unknown key 'training.epocs'\n  -> did you mean 'training."),
        ("trainings.epochs=2", "unknown key 'trainings'\n  -> did you mean 'training'?"),
        ("training.epochs=two", "with --set training.epochs=two: training.epochs: 'two' is not a whole number"),
        ("training.epochs=", "training.epochs: null is not a whole number\n  -> write a whole number"),
        ("training=5", "training: '5' is not a mapping"),
        ("data.split.train=0.9", "data.split: train + val + test must be 1, not 1.2"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    assert message in refused("textile", override)


def test_environment_stands_between_file_and_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_TRAINING__EPOCHS", "7")
    monkeypatch.setenv("MLOPS_TRAINING__AUGMENT__ROTATE90", "true")
    monkeypatch.setenv("MLOPS_GATE__MIN_ACCURACY", "1")
    monkeypatch.setenv("MLOPS_NOTHING", "has no double underscore")
    monkeypatch.setenv("OTHER_TRAINING__EPOCHS", "9")
    workload = load_workload("textile")
    assert (workload.training.epochs, workload.training.augment.rotate90, workload.gate.min_accuracy) == (7, True, 1.0)
    assert load_workload("textile", ["training.epochs=8"]).training.epochs == 8
    assert load_workload("textile", ["training={}"]).training.epochs == 4


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_a_text_of_the_environment_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MLOPS_DATA__PATH", text)
    assert load_workload("textile").data.path == text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MLOPS_TRAINING__EPOCS", "2", "with MLOPS_TRAINING__EPOCS=2: unknown key 'training.epocs'\n  -> did you mean"),
        ("MLOPS_TRAINING__EPOCHS", "x", "with MLOPS_TRAINING__EPOCHS=x: training.epochs: 'x' is not a whole number"),
        ("MLOPS_TRAINING__EPOCHS", "", "training.epochs: null is not a whole number\n  -> write a whole number"),
        ("MLOPS_TRAINING__EPOCHS__X", "2", "MLOPS_TRAINING__EPOCHS__X 'training.epochs.x=2': 'epochs' holds a value"),
        ("MLOPS_TITLE__", "2", "'title' holds a value, not a section"),
        ("MLOPS_MODEL__AUGMENT", "[", "MLOPS_MODEL__AUGMENT=[: unknown key 'model.augment'"),
        ("MLOPS_TRAINING__AUGMENT", "[", "MLOPS_TRAINING__AUGMENT 'training.augment=[': the value is not valid YAML"),
        ("MLOPS_TRANING__EPOCHS", "2", "unknown key 'traning'\n  -> did you mean 'training'?"),
    ],
)
def test_bad_environment_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    assert message in refused("textile")


def test_workloads_are_frozen_and_strict() -> None:
    workload = load_workload("textile")
    for target, key in ((workload, "name"), (workload.training, "epochs"), (workload.training.augment, "rotate90")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, key, getattr(target, key))
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Split.model_validate({"train": 0.7, "dev": 0.3})


def test_augment_views() -> None:
    augment = load_workload("textile", ["training.augment={vertical_flip: true, rotate90: true}"]).training.augment
    assert (augment.views, augment.finite) == (16, True)
    assert not augment.model_copy(update={"brightness": 0.1}).finite


def test_show_prints_defaults_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_SERVING__PORT", "8123")
    words = ["config", "show", "--set", "training.epochs=7", "--set", "training.learning_rate=1e-4"]
    text, as_json = (RUNNER.invoke(app, [*words, *more]) for more in ([], ["--json"]))
    assert yaml.safe_load(text.stdout) == json.loads(as_json.stdout)
    shown = json.loads(as_json.stdout)
    assert (shown["training"]["epochs"], shown["training"]["learning_rate"], shown["serving"]["port"]) == (
        7,
        1e-4,
        8123,
    )
    assert set(shown) == set(Workload.model_fields)


def test_check(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["config", "check", "--workload", write(tmp_path, "name: mine\n")])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "ok: workload mine\n")
    result = RUNNER.invoke(app, ["config", "check", "--set", "training.epoch=1"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.hint.startswith("did you mean 'training.epochs'?")


def test_a_mistake_ends_with_exit_code_2(tmp_path: Path) -> None:
    path = write(tmp_path, "name: mine\ntraining: {epoch: 2}\n")
    command = [sys.executable, "-m", "vision_mlops", "config", "check", "--workload", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert (done.returncode, done.stdout) == (2, "")
    first, hint = done.stderr.splitlines()
    assert first == f"error: {path}: unknown key 'training.epoch'"
    assert hint.startswith("  -> did you mean 'training.epochs'?")


@pytest.mark.parametrize(
    ("content", "key", "line"),
    [
        ('name: mine\ndata: {path: "odd", path: "x"}\n', "path", 2),
        ("name: mine\ntraining:\n  epochs: 2\n  epochs: 3\n", "epochs", 4),
        ("name: mine\nname: other\n", "name", 2),
        ('name: mine\n"name": other\n', "name", 2),
        ("name: mine\nmodel: &a {image_size: 96}\ntraining: {}\nmodel: *a\n", "model", 4),
    ],
)
def test_a_key_is_given_once(content: str, key: str, line: int, tmp_path: Path) -> None:
    message = refused(write(tmp_path, content))
    assert f"the key {key!r} is given twice" in message
    assert f"line {line}: " in message


def test_a_key_is_given_once_in_json_and_on_the_command_line_too() -> None:
    assert "the key 'epochs' is given twice" in refused('{"name": "mine", "training": {"epochs": 1, "epochs": 2}}')
    assert "the key 'rotate90' is given twice" in refused(
        "textile", "training.augment={rotate90: true, rotate90: false}"
    )


def test_a_merged_key_may_be_given_again(tmp_path: Path) -> None:
    content = "name: mine\nmodel: &a {image_size: 96}\ngate: {}\n"
    assert load_workload(write(tmp_path, content)).model.image_size == 96
    content = "name: mine\ntraining:\n  <<: &a {epochs: 2, batch_size: 4}\n  epochs: 3\n"
    training = load_workload(write(tmp_path, content)).training
    assert (training.epochs, training.batch_size) == (3, 4)


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("MLOPS_TRAINING", '{"epochs": 2}', "MLOPS_TRAINING__EPOCHS=2"),
        ("MLOPS_DATA", "photos", "MLOPS_DATA__KEY=value, with a key of the section: "),
        ("MLOPS_GATE", "", "min_accuracy"),
        ("MLOPS_TITLE", "no", "--set title="),
        ("MLOPS_NAME", "x", "--set name="),
    ],
)
def test_a_variable_without_a_key_is_refused(
    variable: str, value: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = refused("textile")
    assert message.startswith(f"the variable {variable} is not read")
    assert hint in message


def test_only_a_whole_serving_section_bothers_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLOPS_NAME", "MLOPS_TRAINING"):
        monkeypatch.setenv(variable, "x")
    assert load_serving() == Serving()
    monkeypatch.setenv("MLOPS_SERVING", "{}")
    with pytest.raises(ConfigError, match="MLOPS_SERVING is not read"):
        load_serving()


def test_variables_of_the_product_are_no_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLOPS_HOME", "MLOPS_PORT", "MLOPS_BUNDLE", "MLOPS_MODEL_NAME", "MLOPS_REGISTRY", "MLOPS_AUTH"):
        monkeypatch.setenv(variable, "x")
    assert load_workload("textile").name == "textile"


def test_both_suffixes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workloads").mkdir()
    write(tmp_path, "name: w7\n", "workloads/w7.yaml")
    write(tmp_path, "name: textile\ntitle: Ours\n", "workloads/textile.yaml")
    assert "w7" in list_workloads()
    assert load_workload("w7").name == "w7"
    assert load_workload("textile").title == "Ours"
    assert not is_shipped("textile")
    assert own_workload("w7") == Path("workloads/w7.yaml")
    assert own_workload("w8") == Path("workloads/w8.yml")


def test_a_workload_with_both_suffixes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workloads").mkdir()
    for suffix in ("yml", "yaml"):
        write(tmp_path, "name: w7\n", f"workloads/w7.{suffix}")
    assert "two files" in refused("w7")
    assert load_workload("workloads/w7.yaml").name == "w7"
