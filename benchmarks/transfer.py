"""Measure uploads to Azurite: `mlops data upload` against the SDK, in series and in threads, and against azure-ai-ml.

    python -m benchmarks.transfer [--files 5000] [--size 20000] [--rounds 3] [--delay 0] [--only ours] [--write]
    python -m benchmarks.transfer --whole [--files 5000] [--size 20000] [--rounds 3] [--delay 0] [--write]

Each arm is a process of its own with an empty Azurite of its own; they take turns, so that a busy machine slows all of them,
and the numbers are medians. Seconds count from the first request to the last answer: Python's start and imports are left
out. `raw socket` sends requests that were made beforehand and does nothing else: Azurite cannot be much faster than that.
With `--delay`, each way to Azurite and back takes that many milliseconds more, as it does to a data centre. `--write`
measures both, and writes docs/benchmarks/transfer.md. `--whole` measures whole commands in place of the arms, also those of
AzCopy and obstore, and with `--write` renews their part of that page.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks import whole_uploads
from testing.support.blob_containers import Container, make_container
from testing.support.delay import delayed

from azureml_emulator.storage.azurite import ACCOUNT, KEY, Azurite

POOLS = (4, 8, 16, 32)
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks" / "transfer.md"
MARK = "<!-- what follows is written by the benchmark -->"
WHOLE_MARK = "<!-- what follows is written by the benchmark with --whole -->"
FAR = "The same with 1,000 files, where each way to storage takes 5 ms more:"
BASE = "SDK, one call after the other"
AGAIN = "ours, again unchanged"
Arm = Callable[[Path, Container], object]
Rows = dict[str, list[dict[str, float]]]


def ours(jobs: int | None = None) -> Arm:
    """This package."""

    def arm(folder: Path, container: Container) -> dict[str, object]:
        from vision_mlops import storage

        place = container.place("data")
        summary = storage.upload(folder, place, jobs=jobs)
        assert summary.ok
        return summary.to_dict()

    return arm


def sdk(threads: int) -> Arm:
    """``ContainerClient.upload_blob`` with an MD5, in a loop or in threads."""

    def arm(folder: Path, container: Container) -> None:
        from azure.storage.blob import ContainerClient, ContentSettings

        client = ContainerClient(container.account_url, container.name, credential=KEY)

        def send(path: Path) -> None:
            content = path.read_bytes()
            digest = bytearray(hashlib.md5(content, usedforsecurity=False).digest())
            name = f"data/{path.relative_to(folder).as_posix()}"
            client.upload_blob(name, content, overwrite=True, content_settings=ContentSettings(content_md5=digest))

        files = list(_files(folder))
        if threads == 1:
            for file in files:
                send(file)
        else:
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                list(pool.map(send, files))

    return arm


def azure_ml(folder: Path, container: Container) -> None:
    """Do what azure-ai-ml does with the folder of a data asset, including its hash of the content."""
    from azure.ai.ml._artifacts._blob_storage_helper import BlobStorageClient
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_object_hash

    client = BlobStorageClient(KEY, container.account_url, container.name)
    ignore = get_ignore_file(folder)
    client.upload(str(folder), "data", "1", ignore, get_object_hash(folder, ignore), show_progress=False)


def raw_socket(folder: Path, container: Container) -> None:
    """Send prepared requests on two connections."""
    parts, signature = urlsplit(container.account_url), container.sas()
    requests = []
    for file in _files(folder):
        content = file.read_bytes()
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        path = f"{parts.path}/{container.name}/data/{quote(file.relative_to(folder).as_posix())}?{signature}"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nx-ms-version: 2021-12-02\r\nx-ms-blob-type: BlockBlob\r\n"
            f"Content-MD5: {digest}\r\nx-ms-blob-content-md5: {digest}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        requests.append(head.encode() + content)

    def send(mine: list[bytes]) -> None:
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in mine:
                connection.sendall(request)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 201"), answer

    global _begun
    _begun = time.perf_counter()
    threads = [threading.Thread(target=send, args=(requests[start::2],)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ARMS: dict[str, Arm] = {
    BASE: sdk(1),
    "SDK, 16 threads": sdk(16),
    "azure-ai-ml": azure_ml,
    "raw socket": raw_socket,
    "ours": ours(),
    **{f"ours, --jobs {jobs}": ours(jobs) for jobs in POOLS},
}
_begun = 0.0


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def child(name: str, folder: Path, account_url: str, container: str) -> None:
    """Run one arm in this process and print its numbers."""
    import azure.storage.blob
    from azure.storage.blob import ContainerClient

    from vision_mlops import storage

    imported = [storage, azure.storage.blob]
    if name == "azure-ai-ml":
        import azure.ai.ml

        imported.append(azure.ai.ml)
    place = Container(account_url, container, ContainerClient(account_url, container, credential=KEY))
    global _begun
    _begun = time.perf_counter()
    ARMS[name](folder, place)
    seconds = time.perf_counter() - _begun
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": usage[0].ru_utime + usage[0].ru_stime,
                "megabytes": (usage[0].ru_maxrss + usage[1].ru_maxrss) / 1024,
            }
        )
    )


def run(name: str, folder: Path, container: Container, home: Path) -> dict[str, float]:
    """Run one arm in a process."""
    words = ["--child", name, str(folder), container.account_url, container.name]
    environment = {**os.environ, "MLOPS_HOME": str(home)}
    command = [sys.executable, "-m", "benchmarks.transfer", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def listing_seconds(container: Container) -> float:
    """Return the seconds that Azurite takes to list the blobs, and nothing else."""
    url = f"{container.account_url}/{container.name}?restype=container&comp=list&maxresults=5000&{container.sas()}"
    begun = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"x-ms-version": "2021-12-02"})) as answer:
        answer.read()
    return time.perf_counter() - begun


def command_seconds(folder: Path, container: Container, home: Path) -> float:
    """Return the seconds of the whole command, including the start of Python."""
    environment = {**os.environ, "MLOPS_HOME": str(home), "AZURE_STORAGE_SAS_TOKEN": container.sas()}
    words = [sys.executable, "-m", "vision_mlops", "data", "upload", str(folder), "--to", container.url("data")]
    begun = time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


@contextlib.contextmanager
def _written(files: int, size: int) -> Iterator[Path]:
    """A temporary folder with files in ``data``."""
    with tempfile.TemporaryDirectory() as name:
        block = os.urandom(size + files)
        for number in range(files):
            file = Path(name) / "data" / f"{number % 10}" / f"{number:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(block[number : number + size])
        time.sleep(2.5)  # files that were just written are not remembered
        yield Path(name)


def measure(given: argparse.Namespace) -> Rows:
    """Run all arms, in turns."""
    names = [name for name in ARMS if not given.only or any(part in name for part in given.only)]
    rows: Rows = {}
    with _written(given.files, given.size) as name:
        folder = name / "data"
        for turn in range(given.rounds):
            for arm in names if turn % 2 == 0 else reversed(names):
                home = name / uuid.uuid4().hex
                with Azurite() as azurite, delayed(azurite.url, given.delay / 1000) as url:
                    container = make_container(azurite.account_url).through(f"{url}/{ACCOUNT}")
                    rows.setdefault(arm, []).append(run(arm, folder, container, home))
                    if arm == "ours":
                        rows.setdefault(AGAIN, []).append(run(arm, folder, container, home))
                        seconds = listing_seconds(container)
                        rows.setdefault("listing alone", []).append({"seconds": seconds})
                        seconds = command_seconds(folder, container, home)
                        rows.setdefault("the whole command, again unchanged", []).append({"seconds": seconds})
                print(f"{arm}: {rows[arm][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    return rows


def measure_whole(given: argparse.Namespace) -> Rows:
    """Run whole commands, in turns; return seconds of the first run, and of one with nothing to send."""
    rows: Rows = {}
    with _written(given.files, given.size) as name:
        for turn in range(given.rounds):
            for upload in list(whole_uploads.UPLOADS)[:: 1 if turn % 2 == 0 else -1]:
                home = name / uuid.uuid4().hex
                with Azurite() as azurite, delayed(azurite.url, given.delay / 1000) as url:
                    container = make_container(azurite.account_url).through(f"{url}/{ACCOUNT}")
                    first, again = (whole_uploads.seconds(upload, name / "data", container, home) for _ in range(2))
                rows.setdefault(upload, []).append({"seconds": first, "again": again})
                print(f"{upload}: {first:.2f} s, again {again:.2f} s", file=sys.stderr, flush=True)
    return rows


def whole_table(rows: Rows) -> str:
    """Return the medians of whole commands as Markdown; ratios are to ours."""
    lines = ["| whole command | s | times ours | unchanged, s | times ours | sends an MD5 |", "| --- " * 6 + "|"]
    for name, upload in whole_uploads.UPLOADS.items():
        first, again = median(rows, name), median(rows, name, "again")
        shares = first / median(rows, whole_uploads.OURS), again / median(rows, whole_uploads.OURS, "again")
        cells = [name, f"{first:.2f}", f"{shares[0]:.2f}", f"{again:.2f}", f"{shares[1]:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {'yes' if upload.sends_md5 else 'no'} |")
    return "\n".join(lines)


def write_part(mark: str, text: str) -> None:
    """Replace what follows a mark on the page, up to the next mark or its end."""
    page = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = page.partition(mark)
    other = {MARK, WHOLE_MARK} - {mark}
    kept = "".join(f"\n{each}{rest.partition(each)[2]}" for each in other if each in rest)
    DOCUMENT.write_text(f"{before}{mark}\n\n{text}{kept}", encoding="utf-8")


def median(rows: Rows, name: str, key: str = "seconds") -> float:
    """Return the median of a number of an arm."""
    return statistics.median(row[key] for row in rows[name])


def table(rows: Rows, files: int) -> str:
    """Return the medians as Markdown."""
    lines = [
        "| upload | s | files/s | times the SDK | CPU of the client, s | peak memory, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(rows, key=lambda name: list(ARMS).index(name) if name in ARMS else len(ARMS)):
        seconds = median(rows, name)
        times = median(rows, BASE) / seconds if BASE in rows else 0
        cells = [name, f"{seconds:.2f}", f"{files / seconds:.0f}", f"{times:.1f}"]
        cells += (
            [f"{median(rows, name, 'cpu'):.1f}", f"{median(rows, name, 'megabytes'):.0f}"]
            if "cpu" in rows[name][0]
            else ["", ""]
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(rows: Rows) -> str:
    """Return the goals and what was reached."""
    ours = median(rows, "ours")
    best = min(median(rows, f"ours, --jobs {jobs}") for jobs in POOLS)
    memory = max(median(rows, name, "megabytes") for name in ("ours", AGAIN))
    found = [
        ("times as fast as one SDK call after the other", median(rows, BASE) / ours, "at least 4"),
        (
            "the same of the raw socket, the most that this Azurite allows",
            median(rows, BASE) / median(rows, "raw socket"),
            "",
        ),
        ("time against the best of the other numbers of requests at once", ours / best, "at most 1.15"),
        ("times as fast the second time", ours / median(rows, AGAIN), "at least 20"),
        (
            "the same where the second time is nothing but Azurite's own listing",
            ours / median(rows, "listing alone"),
            "",
        ),
        ("peak memory, MB", memory, "under 300"),
    ]
    lines = ["| what | measured | wanted |", "| --- | --- | --- |"]
    lines += [
        f"| {what} | {value:.2f} | {wanted} |" if value < 100 else f"| {what} | {value:.0f} | {wanted} |"
        for what, value, wanted in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0, help="add this many milliseconds each way")
    parser.add_argument("--only", nargs="*", default=[], help="run only arms whose name contains one of these")
    parser.add_argument("--whole", action="store_true", help="measure whole commands, including AzCopy and obstore")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]), given.child[2], given.child[3])
        return
    conditions = "{files} files of {size} bytes, {rounds} rounds, {delay:g} ms each way.\n\n"
    text = conditions.format(**vars(given))
    if given.whole:
        text += whole_table(measure_whole(given)) + "\n"
        if given.write:
            far = argparse.Namespace(**{**vars(given), "files": 1000, "delay": 5.0})
            text += "\n" + conditions.format(**vars(far)) + whole_table(measure_whole(far)) + "\n"
            write_part(WHOLE_MARK, text)
        print(text)
        return
    rows = measure(given)
    text += table(rows, given.files) + "\n"
    if not given.only:
        text += "\n" + verdict(rows) + "\n"
    if given.write:
        far = argparse.Namespace(**{**vars(given), "files": 1000, "delay": 5.0, "only": ["SDK", "azure-ai-ml", "ours"]})
        text += f"\n{FAR}\n\n{table(measure(far), far.files)}\n"
        write_part(MARK, text)
    print(text)


if __name__ == "__main__":
    main()
