"""Checks of the machine: what is too little, what is missing, and that each complaint has its fix."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from vision_mlops.doctor import machine_checks, tool_checks
from vision_mlops.doctor.check_results import Diagnosis, Outcome
from vision_mlops.doctor.package_checks import check_packages

Usage = namedtuple("Usage", "total used free")
GB = 1e9


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (machine_checks.check_python((3, 11, 4)), "ok", "Python 3.11.4"),
        (machine_checks.check_python((3, 10, 9)), "fail", "older than 3.11"),
        (machine_checks.check_memory(8 * GB), "ok", "8.0 GB"),
        (machine_checks.check_memory(2 * GB), "warn", "training.batch_size=8"),
        (machine_checks.check_memory(0.5 * GB), "fail", "a server needs 1 GB"),
        (machine_checks.check_memory(None), "ok", "does not report"),
        (machine_checks.check_processor(frozenset({"avx2", "avx512f", "avx512_vnni"}), "x86_64", 4), "ok", "VNNI"),
        (machine_checks.check_processor(frozenset({"avx2", "amx_bf16"}), "x86_64", 1), "ok", "1 core, x86_64, AMX"),
        (machine_checks.check_processor(frozenset({"sse4_2"}), "x86_64", 2), "warn", "CPU type host"),
        (machine_checks.check_processor(frozenset(), "aarch64", 2), "ok", "2 cores, aarch64"),
        (tool_checks.check_engine({}, lambda word: None), "warn", "podman"),
        (
            tool_checks.check_engine({}, lambda word: "/bin/true" if word == "podman" else None),
            "ok",
            "podman at /bin/true",
        ),
        (tool_checks.check_engine({}, lambda word: "/bin/false"), "warn", "`false version` failed"),
        (tool_checks.check_engine({"MLOPS_CONTAINER_ENGINE": "nerdctl -n x"}, lambda word: None), "warn", "nerdctl"),
    ],
)
def test_each_outcome(found: Diagnosis, outcome: str, words: str) -> None:
    assert found.outcome == outcome, found
    assert words in f"{found.detail} {found.fix}"


@pytest.mark.parametrize(("free", "outcome"), [(20.0, "ok"), (3.0, "warn"), (0.5, "fail")])
def test_a_full_disk(free: float, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(100 * GB, 0, free * GB))
    found = machine_checks.check_home(tmp_path / "not" / "there")
    assert (found.outcome, "MLOPS_HOME" in found.fix) == (outcome, outcome != "ok")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no files, whoever asks")
def test_a_home_that_takes_no_files() -> None:
    found = machine_checks.check_home(Path("/proc/outputs"))
    assert (found.outcome, found.detail) == ("fail", "/proc/outputs cannot be written")


def test_an_engine_that_is_not_running(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Is the docker daemon running?' >&2; exit 1\n")
    docker.chmod(0o755)
    found = tool_checks.check_engine({}, lambda word: str(docker))
    assert (found.outcome, found.fix) == ("warn", "start it, for example with `sudo systemctl start docker`")
    assert found.detail == "the container engine is not running: Is the docker daemon running?"


def test_a_taken_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert machine_checks.check_port(port).outcome == Outcome.WARN
    assert machine_checks.check_port(port).outcome == Outcome.OK


def test_the_control_group_counts(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   8000000 kB\n")
    assert machine_checks.memory_available(tmp_path, tmp_path) == 8000000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert machine_checks.memory_available(tmp_path, tmp_path) == 8000000 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    assert machine_checks.memory_available(tmp_path, tmp_path) == 900
    assert machine_checks.memory_available(tmp_path / "none", tmp_path / "none") is None


REQUIREMENTS = [
    "numpy>=2", 'openvino>=2025.4; extra == "serve"', 'uvloop>=0.21; sys_platform != "win32" and extra == "serve"',
    'torch==2.13.0; extra == "train"', 'mlflow>=3,<4; extra == "train"',
    'winonly; sys_platform == "win32" and extra == "train"',
    'vision-mlops[serve]; extra == "train"',
]  # fmt: skip


@pytest.mark.parametrize(
    ("installed", "results"),
    [
        ({"numpy": "2.4"}, [("packages", "ok", "no extra; not installed: serve, train")]),
        ({}, [("packages", "fail", "numpy is not installed")]),
        ({"numpy": "1.9"}, [("packages", "fail", "numpy 1.9 does not fit >=2")]),
        (
            {"numpy": "2.4", "openvino": "2026.4", "uvloop": "0.22", "torch": "2.13.0+cpu", "mlflow": "4.0"},
            [
                ("extra train", "warn", "mlflow 4.0 does not fit"),
                ("packages", "ok", "extras serve"),
                ("torch", "ok", "built for CPUs"),
            ],
        ),
        (
            {"numpy": "2.4", "openvino": "2026.4", "uvloop": "0.22", "torch": "2.13.0+cu130", "mlflow": "3.9"},
            [("packages", "ok", "extras serve, train"), ("torch", "ok", "built for CUDA")],
        ),
    ],
)
def test_packages(installed: dict[str, str], results: list[tuple[str, str, str]], tmp_path: Path) -> None:
    found = list(check_packages(REQUIREMENTS, installed.get, tmp_path / "no driver"))
    assert [(item.name, str(item.outcome)) for item in found] == [(name, outcome) for name, outcome, _ in results]
    assert all(words in item.detail for item, (_, _, words) in zip(found, results, strict=True)), found


def test_a_graphics_processor_without_its_torch(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("driver")
    installed = {"numpy": "2.4", "torch": "2.13.0+cpu"}
    *_, found = check_packages(["numpy"], installed.get, tmp_path / "version")
    assert (found.name, found.outcome) == ("torch", Outcome.WARN)


def test_a_complaint_without_a_fix_is_refused() -> None:
    with pytest.raises(ValueError, match="without a fix"):
        Diagnosis("disk", Outcome.WARN, "full")
