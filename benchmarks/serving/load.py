"""The load: ``wrk`` posts images over eight persistent connections, from one thread."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

CONNECTIONS = 8
_SCRIPT = Path(__file__).with_name("post.lua")
_TIMEOUT_SECONDS = 30
_FIELDS = ("requests", "duration_us", "p50_us", "p99_us", "connect", "read", "write", "timeout", "status")
MISSING = (
    "wrk, which makes the load, is missing: `sudo apt-get install wrk` on Debian and Ubuntu, else build it from source"
)


@dataclass(frozen=True)
class Load:
    """The result of one load. Times are in ms, ``errors`` are of connections, ``refused`` are responses of 400 and above."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int = 0
    refused: int = 0

    @property
    def spread(self) -> float:
        """Return the 99th percentile as a multiple of the median; infinite without any response."""
        return self.p99_ms / self.p50_ms if self.p50_ms else math.inf

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def check_wrk() -> None:
    """Raise SystemExit with how to install wrk, if it is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit(MISSING)


def wrk_version() -> str:
    """Return the version of wrk, as it reports it."""
    done = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split()
    return words[1] if len(words) > 1 else "unknown"


def send(port: int, path: str, files: list[Path], seconds: int) -> Load:
    """Post JPEG files in turn for some seconds.

    Raises:
        SystemExit: wrk failed; holds what it wrote.
    """
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--timeout", f"{_TIMEOUT_SECONDS}s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}"]
    command += ["--", path, "image/jpeg", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read the line that the script adds to wrk's output. Raises ValueError if it is missing or incomplete."""
    line = re.search(r"^result (.*)$", output, re.MULTILINE)
    if line is None:
        raise ValueError(f"wrk's output has no line of results:\n{output}")
    given = dict(pair.split("=", 1) for pair in line[1].split())
    if missing := [name for name in _FIELDS if name not in given]:
        raise ValueError(f"wrk's line of results lacks {', '.join(missing)}: {line[0]}")
    numbers = {name: int(given[name]) for name in _FIELDS}
    return Load(
        requests=numbers["requests"],
        requests_per_s=numbers["requests"] / (numbers["duration_us"] / 1e6),
        p50_ms=numbers["p50_us"] / 1000,
        p99_ms=numbers["p99_us"] / 1000,
        errors=sum(numbers[name] for name in ("connect", "read", "write", "timeout")),
        refused=numbers["status"],
    )
