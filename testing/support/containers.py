"""A container engine that isolates nothing: Docker's command line over processes that really run ``mlops serve``.

    python testing/support/containers.py STATE_FOLDER create --name a IMAGE ...

It takes only the options that the package uses, with Docker's words for what goes wrong. Images whose name has ``crash`` end
at once, those with ``sleepy`` never get ready. ``faults.json`` in the state folder makes further things go wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

# As the engine does, it holds the published port from the start, and closes what comes as long as nobody listens behind it.
_SLEEPY = """
import os, socket
print("still starting", flush=True)
listener = socket.create_server(("127.0.0.1", int(os.environ["MLOPS_PORT"])))
while True:
    listener.accept()[0].close()
"""

SOURCE = Path(__file__).parents[2] / "src"
WITH_VALUE = {
    "--name", "--tmpfs", "--cap-drop", "--security-opt", "--restart", "--stop-timeout", "--publish", "--cpus", "--memory",
    "--mount", "--label", "--env", "-t", "--filter", "--tail", "-f", "--build-arg",
}  # fmt: skip
FLAGS = {"--read-only", "-a", "-q", "--no-trunc"}


def main() -> None:
    """Run one command of the engine."""
    state, command, *rest = sys.argv[1:]
    engine = Engine(Path(state))
    if engine.faults.get("daemon"):
        fail("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
    if command in ("container", "image"):
        command, rest = f"{command}_{rest[0]}", rest[1:]
    with (engine.root / "calls").open("a") as stream:
        stream.write(" ".join([command, *rest]) + "\n")
    method = getattr(engine, command.replace("-", "_"), None)
    if method is None:
        fail(f"docker: '{command}' is not a docker command.")
    if command == "rm":
        rest.remove("-f")  # here it has no value
    options, arguments = parse(rest, until_image=command == "create")
    method(options, arguments)


def fail(message: str, code: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


def parse(words: list[str], *, until_image: bool = False) -> tuple[dict[str, list[str]], list[str]]:
    """Options by name, and arguments; with ``until_image``, what follows the first argument is not looked at."""
    options: dict[str, list[str]] = {}
    arguments: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name, mark, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in WITH_VALUE:
            options.setdefault(name, []).append(value if mark else left.pop(0))
        elif name in FLAGS:
            options.setdefault(name, []).append("")
        elif word.startswith("-"):
            fail(f"unknown flag: {word}", 125)
        else:
            arguments.append(word)
            if until_image:
                return options, [*arguments, *left]
    return options, arguments


class Engine:
    """State of the engine, in files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "containers").mkdir(parents=True, exist_ok=True)
        self.faults: dict[str, Any] = self._read(root / "faults.json")
        self.images: dict[str, Any] = self._read(root / "images.json")

    # Images

    def image_inspect(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        found = self._image(arguments[0])
        if found is None:
            fail(f"Error response from daemon: No such image: {arguments[0]}")
        print(json.dumps([{"Id": f"sha256:{found['id']}", "Config": {"Labels": found["labels"] or None}}]))

    def pull(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        name = arguments[0]
        if "denied" in name:
            fail(
                f"Error response from daemon: pull access denied for {name}, repository does not exist or may require login"
            )
        if "missing" in name:
            fail(f"Error response from daemon: manifest for {name} not found: manifest unknown: manifest unknown")
        self._add_image([name], {}, "")

    def build(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        print("STEP 1: FROM base")
        if self.faults.get("build"):
            fail('ERROR: failed to solve: process "/bin/sh -c pip install" did not complete successfully: exit code: 1')
        context, bundle = Path(arguments[0]), ""
        if (context / "bundle").is_dir():  # the recipe of an image that holds a model
            import shutil

            bundle = str(self.root / f"baked-{os.urandom(4).hex()}")
            shutil.copytree(context / "bundle", bundle)
        arguments_ = dict(item.split("=", 1) for item in options.get("--build-arg", []))
        base = arguments_.get("INFERENCING_IMAGE")
        if base is not None and self._image(base) is None:
            fail(f"ERROR: failed to solve: {base}: not found")
        self._add_image(options["-t"], dict(item.split("=", 1) for item in options.get("--label", [])), bundle)

    def _add_image(self, names: list[str], labels: dict[str, str], bundle: str) -> None:
        made = {"id": os.urandom(32).hex(), "labels": labels, "bundle": bundle}
        self._write(self.root / "images.json", self.images | {self._tagged(name): made for name in names})

    def _image(self, name: str) -> dict[str, Any] | None:
        return self.images.get(self._tagged(name))

    @staticmethod
    def _tagged(name: str) -> str:
        return name if ":" in name.rpartition("/")[2] else f"{name}:latest"

    # Containers

    def create(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        name = options["--name"][0]
        if self._image(arguments[0]) is None:
            fail(f"Unable to find image '{arguments[0]}' locally")
        if self._find(name) is not None:
            fail(f'Error response from daemon: Conflict. The container name "/{name}" is already in use')
        mounts = [dict(item.partition("=")[::2] for item in text.split(",")) for text in options.get("--mount", [])]
        for mount in mounts:
            if not Path(mount["source"]).exists():
                fail(f'invalid mount config for type "bind": bind source path does not exist: {mount["source"]}')
        id_ = os.urandom(32).hex()
        content = {
            "id": id_, "name": name, "image": arguments[0], "command": arguments[1:], "mounts": mounts,
            "labels": dict(item.split("=", 1) for item in options.get("--label", [])),
            "env": dict(item.split("=", 1) for item in options.get("--env", [])),
            "publish": options.get("--publish", [""])[0], "restart": options.get("--restart", ["no"])[0],
        }  # fmt: skip
        self._write(self.root / "containers" / f"{id_}.json", content)
        self._write(self._state_file(id_), {"Status": "created", "ExitCode": 0, "Restarts": 0})
        print(id_)

    def start(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        import socket
        import subprocess

        container = self._need(arguments[0])
        port = int(container["publish"].split(":")[1])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                fail(
                    "Error response from daemon: driver failed programming external connectivity on endpoint"
                    f" {container['name']}: Bind for 127.0.0.1:{port} failed: port is already allocated"
                )
        self._write(self._state_file(container["id"]), {"Status": "running", "ExitCode": 0, "Restarts": 0})
        self._stopping(container["id"]).unlink(missing_ok=True)
        subprocess.Popen(
            [sys.executable, __file__, str(self.root), "supervise", container["id"]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        print(arguments[0])

    def supervise(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        """Run a container's process, and run it again where its policy says so."""
        import subprocess

        container = self._need(arguments[0])
        restarts = 0
        while True:
            with (self.root / "containers" / f"{container['id']}.log").open("ab") as log:
                process = subprocess.Popen(
                    self._command(container), env=self._environment(container), stdout=log, stderr=log, cwd="/"
                )
            state = {"Status": "running", "ExitCode": 0, "Restarts": restarts, "Pid": process.pid}
            self._write(self._state_file(container["id"]), state)
            code = process.wait()
            code = code if code >= 0 else 128 - code
            again = container["restart"] != "no" and not self._stopping(container["id"]).exists()
            if not (self.root / "containers" / f"{container['id']}.json").exists():
                return
            state = {"Status": "restarting" if again else "exited", "ExitCode": code, "Restarts": restarts}
            self._write(self._state_file(container["id"]), state)
            if not again:
                return
            restarts += 1
            time.sleep(0.3)

    def stop(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        container = self._need(arguments[0])
        self._end(container, signal.SIGTERM, float(options["-t"][0]))
        print(arguments[0])

    def rm(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        container = self._need(arguments[0])
        self._end(container, signal.SIGKILL, 5)
        for file in (self.root / "containers").glob(f"{container['id']}.*"):
            file.unlink()

    def rename(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        container = self._need(arguments[0])
        if self._find(arguments[1]) is not None:
            fail(f'Error response from daemon: Conflict. The container name "/{arguments[1]}" is already in use')
        self._write(self.root / "containers" / f"{container['id']}.json", {**container, "name": arguments[1]})

    def logs(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        container = self._need(arguments[0])
        log = self.root / "containers" / f"{container['id']}.log"
        lines = log.read_text().splitlines() if log.is_file() else []
        print("\n".join(lines[-int(options["--tail"][0]) :]))

    def ps(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        wanted = [
            tuple(item.partition("=")[2].split("=", 1)) for item in options.get("--filter", []) if item[:5] == "label"
        ]
        for container in self._all():
            if all(container["labels"].get(key) == value for key, value in wanted):
                print(container["id"])

    def container_inspect(self, options: dict[str, list[str]], arguments: list[str]) -> None:
        container = self._find(arguments[0])
        if container is None:
            print("[]")
            fail(f"Error response from daemon: No such container: {arguments[0]}")
        state = self._read(self._state_file(container["id"]))
        shown = {
            "Id": container["id"], "Name": f"/{container['name']}", "RestartCount": state.pop("Restarts"),
            "State": state, "Config": {"Labels": container["labels"], "Image": container["image"]},
        }  # fmt: skip
        print(json.dumps([shown]))

    # Inside

    def _command(self, container: dict[str, Any]) -> list[str]:
        if "crash" in container["image"]:
            return [sys.executable, "-c", "print('the log says why', flush=True); raise SystemExit(3)"]
        if "sleepy" in container["image"]:
            return [sys.executable, "-c", _SLEEPY]
        return [sys.executable, "-m", "vision_mlops", "serve", *container["command"]]

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        """Only what the container is given, with the paths and the port of this machine."""
        image = self._image(container["image"]) or {}
        places = {mount["target"]: mount["source"] for mount in container["mounts"]}
        if image.get("bundle"):
            places["/model"] = image["bundle"]
        given = {"MLOPS_BUNDLE": "/model", **container["env"]}
        for name, value in given.items():
            for target, source in places.items():
                if value == target or value.startswith(f"{target}/"):
                    given[name] = source + value.removeprefix(target)
        _host, port, inside = container["publish"].split(":")
        assert (given["MLOPS_HOST"], given["MLOPS_PORT"]) == ("0.0.0.0", inside)
        home = self.root / "tmp"
        return {
            **given, "MLOPS_HOST": "127.0.0.1", "MLOPS_PORT": port, "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE), "HOME": str(home), "MLOPS_HOME": str(home),
        }  # fmt: skip

    def _end(self, container: dict[str, Any], number: int, seconds: float) -> None:
        self._stopping(container["id"]).touch()
        deadline = time.monotonic() + seconds
        while (state := self._read(self._state_file(container["id"])))["Status"] in ("running", "restarting"):
            if pid := state.get("Pid"):
                try:
                    os.kill(pid, number if time.monotonic() < deadline else signal.SIGKILL)
                except ProcessLookupError:
                    pass
                number = 0 if number == signal.SIGTERM else number
            time.sleep(0.02)

    # Files

    def _stopping(self, id_: str) -> Path:
        return self.root / "containers" / f"{id_}.stopping"

    def _state_file(self, id_: str) -> Path:
        return self.root / "containers" / f"{id_}.state"

    def _all(self) -> list[dict[str, Any]]:
        return [self._read(path) for path in sorted((self.root / "containers").glob("*.json"))]

    def _find(self, name: str) -> dict[str, Any] | None:
        return next((item for item in self._all() if name in (item["name"], item["id"])), None)

    def _need(self, name: str) -> dict[str, Any]:
        found = self._find(name)
        if found is None:
            fail(f"Error response from daemon: No such container: {name}")
        return found

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        temporary.write_text(json.dumps(content))
        temporary.replace(path)


if __name__ == "__main__":
    main()
