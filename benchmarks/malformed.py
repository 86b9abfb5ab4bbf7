"""Send many malformed requests: check the responses of the server, and whether its memory grows.

    python -m benchmarks.malformed --bundle outputs/bundles/textile [--requests 300000] [--seed 0] [--clients 2]

It starts a server with two workers, sends requests in tenths, and prints after each the memory that the server's
processes have written to (libraries, which other programs share, are left out), and the answers. It ends with 1 where
one was a 5xx, a worker was replaced, or the memory after the last tenth is more than a tenth above that after the first.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
from collections import Counter
from pathlib import Path

from testing.support.malformed_requests import answers_to, malformed_requests
from testing.support.scoring_servers import RunningServer, serving

ROUNDS = 10
GROWTH = 1.1


def memory(server: RunningServer) -> float:
    """Return the megabytes that the server's processes have written to; memory shared since the fork counts once."""
    pids = [server.process.pid, *server.workers()]
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(text.partition("\nPss_Anon:")[2].split()[0]) for text in rollups) / 1024


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=2)
    given = parser.parse_args()
    each = given.requests // ROUNDS // given.clients
    seen, used = Counter[str](), []
    # The admin key enables the code behind it; no request has the key.
    with (
        serving(given.bundle, "--workers", "2", MLOPS_ADMIN_KEY="admin") as server,
        concurrent.futures.ThreadPoolExecutor(given.clients) as pool,
    ):
        workers = server.workers()
        streams = [malformed_requests(given.seed * given.clients + number) for number in range(given.clients)]
        print(f"{memory(server):.0f} MB before the first request", flush=True)
        for number in range(ROUNDS):
            started = time.perf_counter()
            for found in pool.map(lambda stream: answers_to(server.port, stream, each), streams):
                seen.update(found)
            used.append(memory(server))
            seconds = time.perf_counter() - started
            print(f"{(number + 1) * each * given.clients:7d} {used[-1]:5.0f} MB {seconds:5.1f} s", flush=True)
        replaced = server.workers() != workers
    print(" ".join(f"{code}:{count}" for code, count in sorted(seen.items())))
    failed = sum(count for code, count in seen.items() if code.startswith("5"))
    print(f"{failed} answered 5xx, memory {used[-1] / used[0]:.3f} of that after the first tenth")
    return 1 if failed or replaced or used[-1] > GROWTH * used[0] else 0


if __name__ == "__main__":
    sys.exit(main())
