"""What a server takes from its environment: keys that may change, and the bundle's folder as it is mounted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from testing.support.bundles import make_bundle
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import BundleError, ServingError
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.model.bundle_lookup import bundle_root, find_bundle, registered_as
from vision_mlops.serving import access_keys as module
from vision_mlops.serving import foreground
from vision_mlops.serving.access_keys import AccessKeys, keys_of_environment


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)


def valid(keys: AccessKeys, *candidates: str) -> list[str]:
    return [key for key in candidates if keys.accepts(key.encode())]


def test_each_line_of_the_file_and_the_variable_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\nprimary-1 \r\n\nsecondary-\xc3\xa9\n")
    monkeypatch.setenv("MLOPS_SCORING_KEY_FILE", str(file))
    monkeypatch.setenv("MLOPS_SCORING_KEY", "fixed")
    keys = keys_of_environment()
    candidates = ("", "fixed", "primary-1", "secondary-é", "primary", "primary-1 ", "primary-1\nsecondary-é")
    assert valid(keys, *candidates) == ["fixed", "primary-1", "secondary-é"]


def test_no_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keys_of_environment()
    assert not keys_of_environment().accepts(b"")
    monkeypatch.setenv("MLOPS_SCORING_KEY", "x")
    assert keys_of_environment()


@pytest.mark.parametrize("content", [b"", b" \n\r\n", b"k" * 70_000, None], ids=["empty", "blank", "large", "missing"])
def test_a_file_without_keys_is_refused_at_the_start_and_passed_over_later(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"

    def write() -> None:
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)

    write()
    with pytest.raises(ServingError, match=r"MLOPS_SCORING_KEY_FILE: .*keys "):
        AccessKeys(file=file)
    file.write_text("one-key")
    keys = AccessKeys(file=file)
    write()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            keys.refresh()
    assert valid(keys, "one-key") == ["one-key"]
    assert len(caplog.records) == 1, "once, not each second"
    assert "the keys stay as they are" in caplog.text
    file.write_text("two-key")
    keys.refresh()
    assert valid(keys, "one-key", "two-key") == ["two-key"]
    assert "one-key" not in caplog.text
    assert "two-key" not in caplog.text


def test_a_mounted_secret_is_swapped_behind_its_link(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link into a folder that is itself a link, which is replaced."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"key-{version}\nsame\n")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = AccessKeys(file=tmp_path / "keys")
    assert valid(keys, "key-1", "key-2", "same") == ["key-1", "same"]
    (tmp_path / "..next").symlink_to("2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    keys.refresh()
    assert valid(keys, "key-1", "key-2", "same") == ["key-2", "same"]


def test_the_file_is_left_alone_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 60.0)
    file = tmp_path / "keys"
    file.write_text("one")
    keys = AccessKeys(file=file)
    file.write_text("two")
    keys.refresh()
    assert valid(keys, "one", "two") == ["one"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLOPS_BUNDLE": "here"}, "here"),
        ({"MLOPS_BUNDLE": "absent"}, "absent"),
        ({"AZUREML_MODEL_DIR": "mounted"}, "mounted"),
        ({"MLOPS_BUNDLE": "here", "AZUREML_MODEL_DIR": "mounted"}, "here"),
        ({"MLOPS_BUNDLE": "absent", "AZUREML_MODEL_DIR": "mounted"}, "mounted"),
    ],
)
def test_the_folder_that_the_environment_names(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert bundle_root() == tmp_path / expected


def test_a_server_without_a_bundle_says_how_to_name_one() -> None:
    with pytest.raises(BundleError, match="MLOPS_BUNDLE"):
        bundle_root()
    result = CliRunner().invoke(app, ["serve"])
    assert "MLOPS_BUNDLE" in str(result.exception)


@pytest.mark.parametrize("below", [".", "textile", "textile/bundle"])
def test_a_bundle_is_found_at_the_top_and_below(below: str, tmp_path: Path) -> None:
    root = tmp_path / "azureml-models" / "textile" / "3"
    (root / below).mkdir(parents=True)
    (root / below / MANIFEST).write_text("{}")
    assert find_bundle(root) == root / below
    assert registered_as(root) == ("textile", "3")
    assert registered_as(tmp_path) == ("", "")


def test_one_bundle_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="contains no model bundle"):
        find_bundle(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    with pytest.raises(BundleError, match="contains 2 model bundles"):
        find_bundle(tmp_path)


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--auth", "token"], {}, "give key or none"),
        ([], {"MLOPS_AUTH": "token"}, "give key or none"),
        (["--auth", "none"], {"MLOPS_SCORING_KEY": "x"}, "--auth none is given, but a key is set"),
        (["--host", "0.0.0.0"], {}, "set MLOPS_SCORING_KEY or MLOPS_SCORING_KEY_FILE"),
        ([], {"MLOPS_HOST": "0.0.0.0"}, "set MLOPS_SCORING_KEY or MLOPS_SCORING_KEY_FILE"),
        ([], {"MLOPS_SCORING_KEY_FILE": "/nowhere/keys"}, "/nowhere/keys cannot be read: No such file"),
        ([], {"MLOPS_PORT": "tcp://10.0.0.1:80"}, "enableServiceLinks: false"),
        ([], {"MLOPS_PORT": "udp://10.0.0.1:80"}, "enableServiceLinks: false"),
        ([], {"MLOPS_PORT": "eighty"}, "'eighty' is not a whole number from 0 to 65535"),
        (["--port", "65536"], {}, "'65536' is not a whole number from 0 to 65535"),
    ],
)
def test_contradictions_end_with_a_mend(
    options: list[str],
    variables: dict[str, str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["serve", str(tmp_path), *options])
    said = " ".join((str(result.exception) + result.output).replace("│", " ").split())
    assert words in said


@pytest.mark.parametrize(
    ("options", "variables", "port"),
    [
        ([], {}, 8123),
        (["--port", "8124"], {}, 8124),
        ([], {"MLOPS_PORT": "8125"}, 8125),
        ([], {"MLOPS_SERVING__PORT": "8126"}, 8126),
        (["--port", "0"], {"MLOPS_SERVING__PORT": "8126"}, 0),
    ],
    ids=["workload", "option", "variable", "variable-of-the-key", "any"],
)
def test_the_port_of_the_workload_goes_where_nothing_else_is_said(
    options: list[str], variables: dict[str, str], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def listen(host: str, port: int) -> None:
        asked.append((host, port))
        raise ServingError("enough")

    monkeypatch.setattr(foreground, "listen", listen)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    workload = tmp_path / "w.yml"
    workload.write_text("name: work\nserving: {port: 8123}\n")
    bundle = make_bundle(tmp_path / "b")
    result = CliRunner().invoke(app, ["serve", str(bundle), "--workload", str(workload), *options])
    assert isinstance(result.exception, ServingError)
    assert asked == [("127.0.0.1", port)]
