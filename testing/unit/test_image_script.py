"""``environments/docker/images.sh`` with engines that write down what they are asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.recorded_engine import AUDIT, BILL, DIGEST, ENGINE, SYFT

import vision_mlops

ROOT = Path(vision_mlops.__file__).parents[2]
SCRIPT = ROOT / "environments" / "docker" / "images.sh"
USED = ["basename", "bash", "cat", "dirname", "git", "grep", "mkdir", "mktemp", "mv", "python3", "rm", "sort", "wc"]
IMAGES = ["flask_app", "inferencing_image", "mlops_pipeline_image", "training_image"]
NAMES = ["mlops-app", "mlops-inferencing", "mlops-pipeline", "mlops-training"]


class Machine:
    """A copy of what the script needs, with engines and tools of its own on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder / "repository", folder / "calls"
        self.programs = folder / "programs"
        self.programs.mkdir()
        script = self.folder / SCRIPT.relative_to(ROOT)
        script.parent.mkdir(parents=True)
        script.write_bytes(SCRIPT.read_bytes())
        self.script = script
        (self.folder / ".gitignore").write_text("outputs/\n")
        for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b.example commit -qm first"):
            subprocess.run(["git", *command.split()], cwd=self.folder, check=True)

    def has(self, name: str, content: str = ENGINE) -> Machine:
        program = self.programs / name
        program.write_text(content)
        program.chmod(0o755)
        return self

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "TAG", "REGISTRY"))}
        for name in USED:
            found = sys.executable if name == "python3" else shutil.which(name, path=os.defpath)
            if found and not (self.programs / name).exists():
                (self.programs / name).symlink_to(found)
        environment = kept | {"PATH": str(self.programs), "CALLS": str(self.calls), "BILL": BILL} | variables
        return subprocess.run(
            ["/bin/bash", str(self.script), *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_each_folder_of_images_has_a_name() -> None:
    folders = sorted(path.parent.name for path in (ROOT / "environments" / "docker").glob("*/Dockerfile"))
    assert folders == IMAGES


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_all_images_are_built_with_the_time_and_the_name_of_the_commit(machine: Machine, engine: str) -> None:
    done = machine.has(engine).run("build", BASE_IMAGE="base:1")
    assert done.returncode == 0, done.stderr
    seconds, commit = machine.git("log", "-1", "--format=%ct").strip(), machine.git("rev-parse", "HEAD").strip()
    asked = machine.asked()
    for line, folder, name in zip(asked, IMAGES, NAMES, strict=True):
        assert line.startswith(f"{engine} build --build-arg SOURCE_DATE_EPOCH={seconds} ")
        assert f"--label org.opencontainers.image.revision={commit}" in line
        assert "--build-arg BASE_IMAGE=base:1" in line
        assert (f"--timestamp {seconds} --format docker" in line) == (engine != "docker")
        assert line.endswith(f"-f environments/docker/{folder}/Dockerfile -t {name}:{commit[:12]} .")


def test_files_that_differ_from_the_commit_show_in_the_tag(machine: Machine) -> None:
    machine.has("docker")
    with machine.script.open("a") as script:
        script.write("\n")
    assert machine.run("build", "flask_app").returncode == 0
    (line,) = machine.asked()
    assert line.endswith("-dirty .")
    machine.run("build", "flask_app", TAG="v1")
    assert machine.asked()[0].endswith("-t mlops-app:v1 .")


def test_the_engine_and_its_options_are_ones_choice(machine: Machine) -> None:
    machine.has("docker").has("podman")
    machine.run(
        "build",
        "flask_app",
        MLOPS_CONTAINER_ENGINE="podman --root /x",
        MLOPS_CONTAINER_BUILD_OPTIONS="--pull --network=host",
    )
    (line,) = machine.asked()
    assert line.startswith("podman --root /x build ")
    assert " --pull --network=host -f " in line


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_push_keeps_the_digest_and_moves_a_tag(machine: Machine, engine: str) -> None:
    done = machine.has(engine).run("push", "flask_app", REGISTRY="example.azurecr.io/", TAG="7", MOVING_TAG="main")
    assert done.returncode == 0, done.stderr
    changes = [line for line in machine.asked() if "inspect" not in line]
    assert [line.split()[1] for line in changes] == ["tag", "push", "tag", "push"]
    for first, second, tag in ((*changes[:2], "7"), (*changes[2:], "main")):
        assert first == f"{engine} tag mlops-app:7 example.azurecr.io/mlops-app:{tag}"
        assert second.startswith(f"{engine} push ")
        assert second.endswith(f" example.azurecr.io/mlops-app:{tag}")
    kept = (machine.folder / "outputs" / "images" / "mlops-app.digest").read_text()
    assert kept == f"example.azurecr.io/mlops-app@{DIGEST}\n"


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_a_push_that_fails_leaves_no_digest(machine: Machine, engine: str) -> None:
    kept = machine.folder / "outputs" / "images" / "mlops-app.digest"
    kept.parent.mkdir(parents=True)
    kept.write_text("of an earlier push")
    assert machine.has(engine).run("push", "flask_app", REGISTRY="example.azurecr.io", TAG="FAIL").returncode == 3
    assert not kept.exists()


def test_import_is_left_to_the_registry(machine: Machine) -> None:
    done = machine.has("az").run("import", "flask_app", FROM="dev.azurecr.io", REGISTRY="prod.azurecr.io", TAG="7")
    assert done.returncode == 0, done.stderr
    assert machine.asked() == [
        "az acr import --name prod --source dev.azurecr.io/mlops-app:7 --image mlops-app:7 --force"
    ]
    registry = "/subscriptions/1/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/dev"
    machine.run("import", "flask_app", FROM=registry, REGISTRY="prod.azurecr.io", TAG="7")
    assert machine.asked() == [
        f"az acr import --name prod --registry {registry} --source mlops-app:7 --image mlops-app:7 --force"
    ]
    done = machine.run("import", "flask_app", REGISTRY="prod.azurecr.io")
    assert (done.returncode, "error: FROM and REGISTRY" in done.stderr) == (2, True)


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_the_scan_writes_the_bill_and_reads_packages_from_it(machine: Machine, engine: str) -> None:
    machine.has(engine).has("syft", SYFT).has("pip-audit", AUDIT)
    done = machine.run("scan", "flask_app", RESULTS="kept")
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "kept" / "mlops-app.cdx.json").read_text() == BILL
    assert done.stdout.split() == ["flask==3.1.2", "pillow==12.0.0"], "neither Debian's packages nor our own"
    assert "scanning 2 Python packages of mlops-app" in done.stderr


def test_a_failure_ends_it_at_once_and_leaves_no_bill(machine: Machine) -> None:
    machine.has("docker").has("syft", "#!/bin/bash\nexit 9\n")
    assert machine.run("bill").returncode == 9
    assert len(machine.asked()) == 1
    assert not list((machine.folder / "outputs" / "images").iterdir())
    assert machine.run("build", TAG="FAIL").returncode == 3
    assert len(machine.asked()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["make"], "unknown command 'make'"),
        ([], "unknown command ''"),
        (
            ["build", "train"],
            "unknown image 'train'\n  one of flask_app inferencing_image mlops_pipeline_image training_image",
        ),
        (["push", "flask_app"], "no registry to push to\n  REGISTRY=example.azurecr.io make images-push"),
        (["bill", "flask_app"], "syft is not installed"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(machine: Machine, arguments: list[str], words: str) -> None:
    done = machine.has("docker").run(*arguments)
    assert done.returncode == 2
    assert f"error: {words}" in done.stderr
    assert not machine.asked()


def test_programs_that_are_not_there(machine: Machine) -> None:
    done = machine.run("build", MLOPS_CONTAINER_ENGINE="nerdctl -n x")
    assert (done.returncode, "error: nerdctl is not installed" in done.stderr) == (2, True)
    done = machine.run("import", FROM="dev.azurecr.io", REGISTRY="prod.azurecr.io")
    assert (done.returncode, "error: the Azure CLI is not installed" in done.stderr) == (2, True)


def test_no_engine(machine: Machine) -> None:
    done = machine.run("build")
    assert (done.returncode, "no container engine" in done.stderr) == (2, True)
