"""``mlops demo``: the main job from images to a served model, as the commands that anyone can run alone."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.config import SetOption, WorkloadOption
from vision_mlops.cli.output import say

if TYPE_CHECKING:
    from vision_mlops.config.models import Workload


def demo(
    workload: WorkloadOption = "textile",
    images: Annotated[Path | None, typer.Option("--images", help="Folder of class folders to use instead.")] = None,
    set_: SetOption = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the server; 0 takes a free one.")
    ] = 8000,
) -> None:
    """Prepare, train, evaluate, judge, register and serve; each step is printed as the command that would do it.

    A second run reuses what has not changed. On a terminal it serves until Ctrl-C; otherwise it scores samples and ends.

    Example: `mlops demo --workload textile`
    """
    from vision_mlops import paths
    from vision_mlops.cli import data, evaluate, models, train
    from vision_mlops.config import load_workload

    started = time.perf_counter()
    loaded = load_workload(workload, set_ or ())
    home = paths.home()
    folder, bundle = home / "data" / loaded.name, home / "bundles" / loaded.name
    report = home / "reports" / loaded.name
    common = ["--workload", workload, *(part for item in set_ or () for part in ("--set", item))]

    with _step("data", "prepare", *common, "--out", folder, *(("--images", images) if images else ())):
        data.prepare(workload, folder, images, False, set_, False)
    with _step("train", "--data", folder, "--out", bundle, *common):
        if _trained(bundle, folder, loaded):
            say(f"unchanged: {bundle}")
        else:
            train.train(folder, bundle, workload, set_, False, True)
    with _step("evaluate", "--bundle", bundle, "--data", folder, "--out", report):
        _evaluate_once(bundle, folder, report)
    champion = _champion_report(loaded, folder)
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


def _trained(bundle: Path, data: Path, workload: Workload) -> bool:
    """Whether the bundle is whole and was made from this data and these settings."""
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.exceptions import BundleError
    from vision_mlops.model.bundle import read_bundle

    try:
        found = read_bundle(bundle)
    except BundleError:
        return False
    relevant = ("model", "training")
    wanted = workload.model_dump()
    same = all(found.workload.get(key) == wanted[key] for key in relevant)
    return same and found.data_fingerprint == read_manifest(data).fingerprint


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


def _champion_report(workload: Workload, data: Path) -> Path | None:
    """Evaluate the champion on the same images, if there is one; returns its report's folder."""
    from vision_mlops import paths
    from vision_mlops.exceptions import RegistryError
    from vision_mlops.registry import open_registry

    registry = open_registry()
    try:
        champion = registry.get(f"{workload.name}@champion")
    except RegistryError:
        return None
    bundle, report = registry.bundle_path(champion), paths.home() / "reports" / f"{workload.name}-champion"
    with _step("evaluate", "--bundle", bundle, "--data", data, "--out", report):
        _evaluate_once(bundle, data, report)
    return report


def _decision(report: Path) -> str:
    import json

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
        say(
            "\nThe gate did not let the model through and there is no champion: nothing to serve. The reasons are above."
        )
        raise typer.Exit(1) from None
    bundle = registry.bundle_path(champion)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    options = ("--name", workload.name, "--version", champion.version, "--port", port)
    with (
        _step("serve", bundle, *options),
        running_server(
            bundle, port=port if interactive else 0, name=workload.name, version=str(champion.version)
        ) as url,
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


def _score(url: str, image: Path) -> str:
    import json
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
