"""Checks of Python, disk, memory, processor and ports of this machine."""

from __future__ import annotations

import contextlib
import errno
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.cpu import available_cores
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

OLDEST_PYTHON = (3, 11)
SERVER_PORT = 8000
_GB = 1e9
_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
# The first one that the processor has counts; the server and training choose their precision by it.
_FEATURES = (
    ("amx_bf16", "AMX: bf16 for training and serving"),
    ("avx512_bf16", "AVX-512 with bf16: serves in bf16, trains in fp32"),
    ("avx512_vnni", "AVX-512 with VNNI: int8 models pay off, bf16 does not"),
    ("avx_vnni", "AVX2 with VNNI: int8 models pay off, bf16 does not"),
    ("avx512f", "AVX-512: fp32"),
    ("avx2", "AVX2: fp32"),
)


def check_machine() -> Iterator[Diagnosis]:
    """Yield all checks of the machine, one after the other."""
    yield check_python(sys.version_info[:3])
    yield check_home(paths.home())
    temporary = Path(tempfile.gettempdir())
    yield check_space("temporary files", temporary, 0.2, 2.0, "export TMPDIR=/PATH/ON/A/LARGER/DISK")
    yield check_memory(memory_available())
    yield check_processor(processor_flags(), platform.machine(), available_cores())
    yield check_port(SERVER_PORT)


def check_python(version: tuple[int, ...]) -> Diagnosis:
    """Check whether Python is new enough."""
    shown, least = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
    if version[:2] < OLDEST_PYTHON:
        return failure(
            "python",
            f"Python {shown} is older than {least}",
            "install Python 3.11 or later, then: make setup PYTHON=python3.11",
        )
    return ok("python", f"Python {shown} at {sys.executable}")


def check_home(home: Path) -> Diagnosis:
    """Check whether the folder for everything that is written is writable and has room."""
    try:
        with tempfile.TemporaryFile(dir=_existing(home)):  # permissions do not show it if a file system takes no files
            pass
    except OSError:
        return failure("disk", f"{home} cannot be written", "export MLOPS_HOME=/PATH/OF/A/FOLDER/OF/YOURS")
    fix = "make room with `mlops job prune --days 7`, or move it: export MLOPS_HOME=/PATH/ON/A/LARGER/DISK"
    return check_space("disk", home, 1.0, 5.0, fix)


def check_space(name: str, place: Path, least: float, enough: float, fix: str) -> Diagnosis:
    """Check whether a place has room, in GB: below ``least`` nothing works, below ``enough`` a training may not."""
    usage = shutil.disk_usage(_existing(place))
    detail = f"{usage.free / _GB:.1f} GB of {usage.total / _GB:.0f} GB are free at {place}"
    if usage.free < least * _GB:
        return failure(name, f"{detail}; {least:g} GB are needed", fix)
    if usage.free < enough * _GB:
        return warning(name, f"{detail}; training may need {enough:g} GB", fix)
    return ok(name, detail)


def check_memory(available: float | None) -> Diagnosis:
    """Check whether there is memory for a training. ``available`` is in bytes, None where the system does not say."""
    if available is None:
        return ok("memory", "this system does not report how much memory is available")
    detail = f"{available / _GB:.1f} GB are available"
    if available < 1 * _GB:
        return failure(
            "memory", f"{detail}; a server needs 1 GB", "close other programs, or give the container more memory"
        )
    if available < 3 * _GB:
        fix = "close other programs, or train with smaller batches: mlops run --set training.batch_size=8"
        return warning("memory", f"{detail}; training with the defaults needs 3 GB", fix)
    return ok("memory", detail)


def check_processor(flags: frozenset[str], machine: str, cores: int) -> Diagnosis:
    """Check what the processor computes fast. Without flags, which only Linux on x86 reports, only its kind is known."""
    cores_text = f"{cores} core{'' if cores == 1 else 's'}"
    if machine.lower() not in ("x86_64", "amd64") or not flags:
        return ok("processor", f"{cores_text}, {machine}")
    best = next((text for flag, text in _FEATURES if flag in flags), "")
    if not best or "avx2" not in flags:
        return warning(
            "processor",
            f"{cores_text}, {machine} without AVX2: training and serving take several times as long",
            "use a machine whose processor has AVX2, or a virtual machine that passes it on (CPU type host)",
        )
    return ok("processor", f"{cores_text}, {machine}, {best}")


def check_port(port: int) -> Diagnosis:
    """Check whether the port of the scoring server is free."""
    with contextlib.closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return warning("port", f"port {port} cannot be used: {error.strerror}", "mlops serve MODEL --port 0")
            fix = f"end what listens there (ss -ltnp 'sport = :{port}' names it), or: mlops serve MODEL --port 0"
            return warning("port", f"port {port}, on which `mlops serve` listens, is taken", fix)
    return ok("port", f"port {port} is free")


def memory_available(proc: Path = _PROC, groups: Path = _GROUPS) -> float | None:
    """Return how many bytes this process may still take, of the machine and of its control group; None if unknown."""
    found: list[float] = []
    with contextlib.suppress(OSError):
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE):
            found.append(int(match[1]) * 1024.0)
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        found.append(float(int((groups / "memory.max").read_text()) - int((groups / "memory.current").read_text())))
    return min(found, default=None)


def processor_flags(proc: Path = _PROC) -> frozenset[str]:
    """Return the features of the processor, as Linux names them; empty if they are unknown."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^flags\s*:(.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE):
            return frozenset(match[1].split())
    return frozenset()


def _existing(place: Path) -> Path:
    """Return a path, or the first folder above it that exists."""
    return next((folder for folder in (place, *place.parents) if folder.exists()), Path("/"))
