"""The bound of our server: its predictor in a loop in two processes, without HTTP and without a client.

    python loop.py BUNDLE PRECISION WARM_UP_SECONDS SECONDS IMAGE...

Prints one line of JSON: images per second of both together, and the median and 99th percentile of an image in ms.
"""

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
    """Give a process what lets both begin at once."""
    global _begin
    _begin = begin


def work(index: int) -> tuple[float, list[float]]:
    """One process: seconds in all, and of each image."""
    from vision_mlops.serving.served_model import ModelSource, load_model

    folder, precision, warm_up, seconds, *files = sys.argv[1:]
    images = [Path(file).read_bytes() for file in files]
    # As the server loads it: where bf16 does not give the golden examples, both take 32-bit floats.
    predictor = load_model(ModelSource(Path(folder), precision=precision, threads=1)).predictor  # type: ignore[arg-type]

    def loop(limit: float) -> tuple[float, list[float]]:
        started = last = time.perf_counter()
        spent: list[float] = []
        count = index  # the processes begin with different images
        while last - started < limit:
            scores = predictor.score([predictor.pixels(images[count % len(images)])])
            predictor.top(scores.probabilities[0], 5)
            now = time.perf_counter()
            spent.append(now - last)
            last, count = now, count + 1
        return last - started, spent

    loop(float(warm_up))
    _begin.wait(_PATIENCE_SECONDS)
    return loop(float(seconds))


def main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, share, (context.Barrier(PROCESSES),)) as pool:
        results = list(pool.map(work, range(PROCESSES)))
    spent = sorted(second for _, each in results for second in each)
    numbers = {
        "requests": len(spent),
        "requests_per_s": sum(len(each) / seconds for seconds, each in results),
        "p50_ms": 1000 * spent[len(spent) // 2],
        "p99_ms": 1000 * spent[int(len(spent) * 0.99)],
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
