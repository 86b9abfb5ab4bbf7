"""A loop over images in two processes of one thread, without HTTP and without a client.

    python two_processes.py MODULE BUNDLE PRECISION WARM_UP_SECONDS SECONDS IMAGE...

The function ``load`` of the module (``bound.loop``, ``ours.loop``) gives what is done with an image. Prints one line of
JSON: images per second of both processes together, the median and 99th percentile of an image in ms, and the most
probable label of each image with its probability. Runs in the environments of the systems, so it imports none of the
benchmark's other modules.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

PROCESSES = 2
_PATIENCE_SECONDS = 120.0
_begin: Barrier


def share(begin: Barrier) -> None:
    """Give a process the barrier that lets both begin at once."""
    global _begin
    _begin = begin


def work(index: int) -> tuple[float, list[float], list[tuple[str, float]]]:
    """Run one process; return total seconds, seconds of each image, and the first result of each."""
    module, folder, precision, warm_up, seconds, *files = sys.argv[1:]
    images = [Path(file).read_bytes() for file in files]
    score = importlib.import_module(module).load(Path(folder), precision)
    answers = [score(image)[0] for image in images]

    def loop(limit: float) -> tuple[float, list[float]]:
        started = last = time.perf_counter()
        spent: list[float] = []
        count = index  # the processes begin with different images
        while last - started < limit:
            score(images[count % len(images)])
            now = time.perf_counter()
            spent.append(now - last)
            last, count = now, count + 1
        return last - started, spent

    loop(float(warm_up))
    _begin.wait(_PATIENCE_SECONDS)
    return *loop(float(seconds)), answers


def main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, share, (context.Barrier(PROCESSES),)) as pool:
        results = list(pool.map(work, range(PROCESSES)))
    spent = sorted(second for _, each, _ in results for second in each)
    numbers = {
        "requests": len(spent),
        "requests_per_s": sum(len(each) / seconds for seconds, each, _ in results),
        "p50_ms": 1000 * spent[len(spent) // 2],
        "p99_ms": 1000 * spent[int(len(spent) * 0.99)],
    }
    print(json.dumps({"load": numbers, "answers": results[0][2]}))


if __name__ == "__main__":
    main()
