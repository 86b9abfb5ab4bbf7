"""Measure what the web frontend adds to a response of its endpoint, and whether it copes with many people at once.

    python -m benchmarks.web_app [--bundle BUNDLE] [--clients 50] [--seconds 60] [--requests 300] [--write]

A scoring server with one worker and the app under gunicorn run on this machine. Images are asked for in turns, straight from
the server and through the app, so that a busy machine slows both; then so many clients upload without a pause. The exit
code is 1 where the app adds more than 10 ms (median), the first page takes over 300 ms, a request fails, or memory grows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
from benchmarks.serving.processes import proportional_megabytes, tree
from testing.support.scoring_servers import serving
from testing.support.web_app import web_app

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/benchmarks/web_app.md"
MOST_ADDED_MS, MOST_PAGE_MS, MOST_GROWTH = 10.0, 300.0, 1.1
HEAD = """# The web frontend

Written by `python -m benchmarks.web_app --write`: a scoring server with one worker, the app under gunicorn, and the clients
run on one machine ("""
_WARM_UP_SHARE = 1 / 3
"""Share of the load's time after which the memory is first read."""


@contextlib.contextmanager
def browser(address: str) -> Iterator[httpx.Client]:
    """Open a session that has loaded a page, and sends the token of its forms."""
    with httpx.Client(base_url=address, timeout=60) as client:
        found = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/").text)
        assert found is not None
        client.headers["X-CSRFToken"] = found[1]
        yield client


def added_ms(server: str, address: str, image: bytes, requests: int) -> tuple[float, float, float]:
    """Return medians in milliseconds: directly from the server, through the app, and of the difference."""
    direct: list[float] = []
    through: list[float] = []
    with browser(address) as app, httpx.Client(timeout=60) as client:
        for turn in range(-20, requests):  # the first ones warm up
            started = time.perf_counter()
            client.post(server, content=image, headers={"Content-Type": "image/jpeg"}).raise_for_status()
            between = time.perf_counter()
            app.post("/api/classify", files={"image": ("a.jpg", image, "image/jpeg")}).raise_for_status()
            if turn >= 0:
                direct.append((between - started) * 1000)
                through.append((time.perf_counter() - between) * 1000)
    longer = [app - alone for app, alone in zip(through, direct, strict=True)]
    return statistics.median(direct), statistics.median(through), statistics.median(longer)


def page_ms(address: str) -> float:
    """Return the median milliseconds until a new browser has the first page and everything that it loads."""
    times = []
    for _ in range(20):
        with httpx.Client(base_url=address, timeout=60) as client:
            started = time.perf_counter()
            text = client.get("/").text
            for path in dict.fromkeys(re.findall(r'(?:src|href)="(/(?:static|samples)/[^"]+)"', text)):
                client.get(path).raise_for_status()
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def load(
    address: str, image: bytes, clients: int, seconds: float, app: int
) -> tuple[Counter[str], list[float], list[float]]:
    """Upload from many clients at once.

    Returns:
        How often each came of it, milliseconds of the answered requests, and the app's memory in MB over time.
    """
    came: Counter[str] = Counter()
    times: list[float] = []
    memory: list[float] = []
    end = time.monotonic() + seconds

    def upload() -> None:
        with browser(address) as client:
            while time.monotonic() < end:
                started = time.perf_counter()
                try:
                    answer = client.post("/api/classify", files={"image": ("a.jpg", image, "image/jpeg")})
                    came[str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    came[type(error).__name__] += 1
                times.append((time.perf_counter() - started) * 1000)

    threads = [threading.Thread(target=upload) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds * _WARM_UP_SHARE)
    while time.monotonic() < end:
        memory.append(proportional_megabytes(app))
        time.sleep(min(2.0, seconds / 20))
    for thread in threads:
        thread.join()
    return came, times, memory


def gunicorn() -> int:
    """Return the id of the process that runs the app."""
    commands = {number: Path(f"/proc/{number}/cmdline").read_bytes() for number in tree(os.getpid())}
    return min(number for number, command in commands.items() if b"gunicorn" in command)


def main() -> int:
    """Measure, print, and with --write keep the result; exit with code 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "outputs/bundles/textile")
    parser.add_argument("--image", type=Path, default=ROOT / "data/examples/nominal.jpg")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    given = parser.parse_args()
    image = given.image.read_bytes()
    with serving(given.bundle, "--workers", "1") as server:
        url = f"http://127.0.0.1:{server.port}/score"
        with web_app(url, RATE_LIMIT="none", SAMPLES=str(given.image.parent)) as address:
            direct, through, longer = added_ms(url, address, image, given.requests)
            page = page_ms(address)
            came, times, memory = load(address, image, given.clients, given.seconds, gunicorn())
    half = len(memory) // 2
    growth = statistics.median(memory[half:]) / statistics.median(memory[:half])
    times.sort()
    shares = [f"{times[int(share * (len(times) - 1))]:.0f}" for share in (0.5, 0.95, 1)]
    rows = [
        ("an image directly from the server, median", f"{direct:.1f} ms", ""),
        ("the same through the app, median", f"{through:.1f} ms", ""),
        ("added by the app, median", f"{longer:.1f} ms", f"{MOST_ADDED_MS:g} ms"),
        ("first page with everything that it loads, median", f"{page:.0f} ms", f"{MOST_PAGE_MS:g} ms"),
        (f"{given.clients} clients for {given.seconds:g} s: answered", f"{came['200']:,}", ""),
        ("failed", f"{came.total() - came['200']}", "0"),
        ("median, 95 %, longest", f"{', '.join(shares)} ms", ""),
        ("memory of the app, PSS, in the middle", f"{statistics.median(memory[:half]):.0f} MB", ""),
        ("at the end", f"{statistics.median(memory[half:]):.0f} MB", f"x {MOST_GROWTH:g}"),
    ]  # fmt: skip
    table = "\n".join(
        ["| what | measured | limit |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
    )
    print(table, dict(came), sep="\n")
    if given.write:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
        RESULTS.write_text(f"{HEAD}{machine}).\n\n{table}\n", encoding="utf-8")
    good = longer <= MOST_ADDED_MS and page <= MOST_PAGE_MS and came.keys() == {"200"} and growth <= MOST_GROWTH
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
