"""Whole commands that upload a folder: ours, AzCopy and a script around obstore, from start to end of the process.

AzCopy comes from its npm package, obstore from PyPI; each is called as its documentation shows. `mlops data upload` and
AzCopy with `--put-md5` send an MD5 with every file, obstore sends none. The second run has nothing to send: `azcopy sync`
and `azcopy copy --overwrite ifSourceNewer` compare times, obstore compares nothing and sends everything again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from testing.support.blob_containers import Container

from azureml_emulator.storage.azurite import ACCOUNT, npm_install

AZCOPY_VERSION = "10.32.2"
_AZCOPY = "@azure-tools/azcopy-linux"
# Its asynchronous calls do the same, but a process that has made some may abort at its end.
_OBSTORE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from obstore.store import AzureStore

folder, endpoint, account, container, token = sys.argv[1:]
store = AzureStore(
    container, account_name=account, sas_key=token, endpoint=endpoint, prefix="data", client_options={"allow_http": True}
)
paths = [path for path in Path(folder).rglob("*") if path.is_file()]
with ThreadPoolExecutor(16) as pool:
    list(pool.map(lambda path: store.put(path.relative_to(folder).as_posix(), path), paths))
"""


def azcopy(folder: Path | None = None) -> Path:
    """Install AzCopy beside the Python environment, unless it is already installed.

    Args:
        folder: Where to.

    Raises:
        SystemExit: npm cannot install it.
    """
    folder = folder or Path(sys.prefix) / f"azcopy-{AZCOPY_VERSION}"
    program = folder / "node_modules" / _AZCOPY / "dist" / "bin" / "azcopy_linux_amd64"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "install.lock", timeout=600):
        if not program.exists():
            done = npm_install(f"{_AZCOPY}@{AZCOPY_VERSION}", folder)
            if done.returncode or not program.exists():
                raise SystemExit(
                    f"npm cannot install {_AZCOPY} {AZCOPY_VERSION} into {folder}:\n{str(done.stdout)[-2000:]}"
                )
        program.chmod(0o755)
    return program


@dataclass(frozen=True)
class Upload:
    """A command that uploads a folder.

    Attributes:
        words: Makes its words of folder and container.
        sends_md5: Whether an MD5 goes with each file, which storage compares and keeps. Without one, storage makes one of
            what arrives, but of no file that arrives in blocks.
    """

    words: Callable[[Path, Container], list[str]]
    sends_md5: bool = True


def _ours(folder: Path, container: Container) -> list[str]:
    return [sys.executable, "-m", "vision_mlops", "data", "upload", str(folder), "--to", container.url("data")]


def _azcopy_copy(folder: Path, container: Container) -> list[str]:
    return _azcopy("copy", f"{folder}/*", container, "--recursive", "--overwrite=ifSourceNewer")


def _azcopy_sync(folder: Path, container: Container) -> list[str]:
    return _azcopy("sync", str(folder), container)


def _azcopy(verb: str, source: str, container: Container, *more: str) -> list[str]:
    # Without the check of its version, which would wait for a host that cannot be reached.
    fixed = ["--put-md5", "--from-to=LocalBlob", "--skip-version-check", "--output-level=essential"]
    return [str(azcopy()), verb, source, f"{container.url('data')}?{container.sas()}", *fixed, *more]


def _obstore(folder: Path, container: Container) -> list[str]:
    return [
        sys.executable,
        "-c",
        _OBSTORE,
        str(folder),
        container.account_url,
        ACCOUNT,
        container.name,
        container.sas(),
    ]


OURS = "`mlops data upload`"
UPLOADS: dict[str, Upload] = {
    OURS: Upload(_ours),
    "`azcopy copy --put-md5`": Upload(_azcopy_copy),
    "`azcopy sync --put-md5`": Upload(_azcopy_sync),
    "obstore in 16 threads": Upload(_obstore, sends_md5=False),
}


def seconds(name: str, folder: Path, container: Container, home: Path) -> float:
    """Run a command; return the seconds from its start to its end.

    Args:
        name: In :data:`UPLOADS`.
        folder: What is uploaded.
        container: Where to, below ``data``.
        home: Where the command keeps what it remembers.

    Raises:
        SystemExit: it fails, or storage does not hold the folder's files afterwards.
    """
    words = UPLOADS[name].words(folder, container)
    places = {"MLOPS_HOME": home, "AZCOPY_LOG_LOCATION": home / "log", "AZCOPY_JOB_PLAN_LOCATION": home / "plans"}
    environment = {**os.environ, "AZURE_STORAGE_SAS_TOKEN": container.sas(), "AZCOPY_DISABLE_SYSLOG": "true"}
    environment |= {key: str(path) for key, path in places.items()}
    begun = time.perf_counter()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    found = time.perf_counter() - begun
    if done.returncode:
        hint = "\napt-get install libsecret-1-0" if "libsecret" in done.stderr else ""
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}{hint}")
    sent = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {blob.name: blob.content_settings.content_md5 for blob in container.client.list_blobs("data/")}
    if {f"data/{name}" for name in sent} != set(there):
        raise SystemExit(f"{name}: {len(there)} of {len(sent)} files are in storage")
    if UPLOADS[name].sends_md5 and not all(there.values()):
        raise SystemExit(f"{name}: {sum(map(bool, there.values()))} of {len(sent)} files have an MD5")
    return found
