"""``mlops demo``: the main job from images to a served model, as the commands that anyone can run alone."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.config import SetOption, WorkloadOption
from vision_mlops.cli.output import say

if TYPE_CHECKING:
    from vision_mlops.config.models import Workload
    from vision_mlops.data.manifest import Manifest


def demo(
    workload: WorkloadOption = "textile",
    images: Annotated[Path | None, typer.Option("--images", help="Folder of class folders to use instead.")] = None,
    set_: SetOption = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the server; 0 takes a free one.")
    ] = 8000,
) -> None:
    """Prepare, train, evaluate, judge, register and serve; each step is printed as the command that would do it.

    A second run reuses what has not changed, and goes on where the first was interrupted. On a terminal it serves until
    Ctrl-C; otherwise it scores samples and ends. With `--images` the model is named after the folder.

    Example: `mlops demo`, or with images of your own `mlops demo --images photos/birds`
    """
    from vision_mlops import paths
    from vision_mlops.cli import data, evaluate, models
    from vision_mlops.config import load_workload

    started = time.perf_counter()
    set_ = [*_names(images), *(set_ or ())]
    loaded = load_workload(workload, set_)
    home = paths.home()
    folder, bundle = home / "data" / loaded.name, home / "bundles" / loaded.name
    report = home / "reports" / loaded.name
    common = ["--workload", workload, *(part for item in set_ for part in ("--set", item))]

    with _step("data", "prepare", *common, "--out", folder, *(("--images", images) if images else ())):
        data.prepare(workload, folder, images, False, set_, False)
    _train_once(loaded, folder, bundle, workload, set_, common)
    with _step("evaluate", "--bundle", bundle, "--data", folder, "--out", report):
        _evaluate_once(bundle, folder, report)
    champion = _champion_report(loaded, folder, report)
    with _step("gate", "--candidate", report, *(("--champion", champion) if champion else ()), *common):
        evaluate.gate(report, champion, workload, set_, None, evaluate.FailOn.NEVER, False)
    rejected = _decision(report) != "promote"
    flags = () if rejected else ("--promote",)
    with _step("models", "register", "--bundle", bundle, "--name", loaded.name, "--data", folder, "--metrics", report,
               "--verdict", report / "verdict.json", *flags):  # fmt: skip
        models.register(
            bundle, loaded.name, metrics=report, verdict=report / "verdict.json", data=folder, promote=not rejected
        )
    _serve(loaded, folder, port, time.perf_counter() - started)


@contextmanager
def _step(*words: object) -> Iterator[None]:
    typer.secho(f"\n$ mlops {shlex.join(_short(word) for word in words)}", err=True, bold=True)
    start = time.perf_counter()
    yield
    typer.secho(f"  ({time.perf_counter() - start:.1f} s)", err=True, dim=True)


def _short(word: object) -> str:
    """Paths below the working directory are shown as the user would type them."""
    path = word if isinstance(word, Path) else None
    if path is not None and path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(word)


def _names(images: Path | None) -> list[str]:
    """Overrides that name the workload after a folder of the user's, so that its model is not taken for the shipped one."""
    if images is None:
        return []
    title = images.expanduser().resolve().name
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    name = name if name[:1].isalpha() else f"images-{name}".rstrip("-")
    return [f"name={name[:63]}", f"title={json.dumps(title)}"]


def _train_once(
    workload: Workload, data: Path, bundle: Path, reference: str, set_: list[str], common: list[str]
) -> None:
    """Train unless the bundle is there already; go on with an interrupted training of the same settings."""
    from vision_mlops.cli import train
    from vision_mlops.data.manifest import read_manifest

    manifest = read_manifest(data)
    words: list[object] = ["train", "--data", data, "--out", bundle, *common]
    if _trained(bundle, manifest, workload):
        with _step(*words):
            say(f"unchanged: {bundle}")
        return
    from vision_mlops.training.workspace import Workspace

    resume = Workspace(bundle.absolute(), workload, manifest).resumable
    with _step(*words, "--overwrite", *(("--resume",) if resume else ())):
        train.train(data, bundle, reference, set_, resume, True)


def _trained(bundle: Path, manifest: Manifest, workload: Workload) -> bool:
    """Whether the bundle is whole and was made from this data and these settings."""
    from vision_mlops.exceptions import BundleError
    from vision_mlops.model.bundle import read_bundle

    try:
        found = read_bundle(bundle)
    except BundleError:
        return False
    relevant = ("model", "training")
    wanted = workload.model_dump()
    same = all(found.workload.get(key) == wanted[key] for key in relevant)
    return same and found.data_fingerprint == manifest.fingerprint


def _evaluate_once(bundle: Path, data: Path, report: Path) -> None:
    from vision_mlops.cli import evaluate
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.exceptions import MlopsError
    from vision_mlops.model.bundle import bundle_id, read_bundle

    try:
        metrics = read_evaluation(report).metrics
    except MlopsError:
        metrics = {}
    same_data = metrics.get("data_fingerprint") == read_manifest(data).fingerprint
    if same_data and metrics.get("bundle_id") == bundle_id(read_bundle(bundle)):
        say(f"unchanged: {report} (accuracy {metrics['accuracy']:.4f})")
        return
    evaluate.evaluate(bundle, data, report, evaluate.Split.TEST, False)


def _champion_report(workload: Workload, data: Path, candidate: Path) -> Path | None:
    """Evaluate the champion on the same images, if there is one that is not the candidate; returns its report's folder."""
    from vision_mlops import paths
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.exceptions import RegistryError
    from vision_mlops.registry import open_registry

    registry = open_registry()
    try:
        champion = registry.get(f"{workload.name}@champion")
    except RegistryError:
        return None
    if champion.bundle_id == read_evaluation(candidate).metrics["bundle_id"]:
        return candidate
    bundle, report = registry.bundle_path(champion), paths.home() / "reports" / f"{workload.name}-champion"
    with _step("evaluate", "--bundle", bundle, "--data", data, "--out", report):
        _evaluate_once(bundle, data, report)
    return report


def _decision(report: Path) -> str:
    return str(json.loads((report / "verdict.json").read_text(encoding="utf-8"))["decision"])


def _serve(workload: Workload, data: Path, port: int, seconds: float) -> None:
    """Serve the champion: until Ctrl-C on a terminal, else for as long as the sample images take."""
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.deployment.local import running_server
    from vision_mlops.exceptions import RegistryError
    from vision_mlops.registry import open_registry

    registry = open_registry()
    try:
        champion = registry.get(f"{workload.name}@champion")
    except RegistryError:
        say("\nThe gate did not let the model through, and there is no champion to serve. The reasons are above;")
        say("`mlops serve BUNDLE` serves it all the same, `--set gate.min_accuracy=0.8` lowers a floor.")
        raise typer.Exit(1) from None
    bundle = registry.bundle_path(champion)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    chosen = _free(port) if interactive else 0
    if chosen != port and interactive:
        say(f"\nport {port} is in use: taking a free one instead")
    options = ("--name", workload.name, "--version", champion.version, "--port", chosen)
    with (
        _step("serve", bundle, *options),
        running_server(bundle, port=chosen, name=workload.name, version=str(champion.version)) as url,
    ):
        manifest = read_manifest(data)
        for label in manifest.classes:
            record = next(record for record in manifest.of_split("test") if record.label == label)
            typer.echo(f"{record.path}: {_score(url, data / record.path)}")
        say(
            f"\n{workload.title or workload.name} version {champion.version} answers at {url}  ({seconds:.0f} s so far)"
        )
        if interactive:
            say(f"Open {url} in a browser to score your own images; Ctrl-C stops the server.")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                say("stopping")
    if not interactive:
        say(f"Serve it again with: mlops serve {_short(bundle)} --port {port}")


def _free(port: int) -> int:
    """The port, or 0 (any) where something else listens on it: nobody wants to train for minutes and then fail on that."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _score(url: str, image: Path) -> str:
    import urllib.request

    headers = {"Content-Type": "application/octet-stream", **_key()}
    request = urllib.request.Request(f"{url}/score?top_k=2", image.read_bytes(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        predictions = json.load(answer)["predictions"]
    return ", ".join(f"{item['label']} {item['probability']:.1%}" for item in predictions)


def _key() -> dict[str, str]:
    import os

    key = os.environ.get("MLOPS_SCORING_KEY")
    return {"X-Api-Key": key} if key else {}
