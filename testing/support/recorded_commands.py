"""Scripts of ``infrastructure`` run against commands that record: `az` with its small Azure, `kubectl` and `kubelogin`."""

from __future__ import annotations

import copy
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing.support.recording_az import AzServer, new_state

ROOT = Path(__file__).parents[2]
# Refuses as often as the file says: what is assigned is not in effect yet.
_KUBECTL = """#!/bin/sh
echo "kubectl $*" >>"$WORLD/others"
case "$*" in *"--filename -"*) { echo ---; cat; } >>"$WORLD/applied" ;; esac
case "$*" in *"can-i"*)
  left=$(cat "$WORLD/refusals" 2>/dev/null || echo 0)
  [ "$left" = 0 ] || { echo $((left - 1)) >"$WORLD/refusals"; echo no; exit 1; } ;;
esac
"""
_KUBELOGIN = '#!/bin/sh\necho "kubelogin $*" >>"$WORLD/others"\n'
_MLOPS = """#!/bin/sh
echo "mlops $*" >>"$WORLD/checks"
[ ! -e "$WORLD/unfit" ] || { echo "fail  quota  no vCPUs"; exit 1; }
"""
READING = ("show", "list", "exists", "list-deleted", "what-if")


@dataclass
class World:
    """A folder with the commands, and the state of the small Azure in it."""

    folder: Path
    az: AzServer

    @classmethod
    @contextmanager
    def run_in(cls, folder: Path) -> Iterator[World]:
        """Commands that shadow the real ones."""
        az = AzServer(new_state())
        (folder / "bin").mkdir()
        for name, text in {"az": az.script, "kubectl": _KUBECTL, "kubelogin": _KUBELOGIN, "mlops": _MLOPS}.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        try:
            yield cls(folder, az)
        finally:
            az.close()

    @property
    def state(self) -> dict[str, Any]:
        """What the small Azure has now: a copy."""
        return copy.deepcopy(self.az.state)

    def change(self, **changes: Any) -> None:
        """Put something into the state."""
        self.az.state.update(changes)

    def refuse_kubernetes(self, times: int) -> None:
        """So often the cluster says that one may not."""
        (self.folder / "refusals").write_text(str(times))

    @property
    def calls(self) -> list[str]:
        """Command lines of `az`, in order."""
        return [" ".join(words) for words in self.state["calls"]]

    @property
    def changing(self) -> list[str]:
        """Those that change something."""
        return [" ".join(words) for words in self.state["calls"] if not _reads(words)]

    @property
    def others(self) -> list[str]:
        """Command lines of the other commands."""
        file = self.folder / "others"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def checks(self) -> list[str]:
        """Command lines of `mlops`, which checks what is there."""
        file = self.folder / "checks"
        return file.read_text().splitlines() if file.exists() else []

    def fail_checks(self) -> None:
        """Let the checks fail."""
        (self.folder / "unfit").touch()

    @property
    def applied(self) -> str:
        """Manifests that kubectl was given."""
        file = self.folder / "applied"
        return file.read_text() if file.exists() else ""

    def run(self, script: str, *words: str, answer: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a script of ``infrastructure`` to its end."""
        env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "HOME": str(self.folder), "MLOPS_WAIT_SECONDS": "0",
            "MLOPS_WAIT_TRIES": "5", "WORLD": str(self.folder), **environ,
        }  # fmt: skip
        terminal, stdin = pty.openpty()  # where nobody is to answer, standard input is no terminal
        os.write(terminal, f"{answer}\n".encode())
        try:
            return subprocess.run(
                ["bash", str(ROOT / "infrastructure" / script), *words], env=env, cwd=self.folder, text=True,
                stdin=stdin if answer else subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(terminal)
            os.close(stdin)


def _reads(words: list[str]) -> bool:
    command = [word for word in words if not word.startswith("-")]
    if words[0] == "rest":
        return words[words.index("--method") + 1] == "get"
    return any(word in READING for word in command[:4])
