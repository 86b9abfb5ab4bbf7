"""``mlops models``: use the model registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.models import image, register, transfer_version, verdict
from vision_mlops.cli.models.version_output import REF_HELP, Ref, public
from vision_mlops.cli.options import JsonOption, filled
from vision_mlops.cli.output import emit, emit_json, emit_table, say, warn, width
from vision_mlops.core.text import counted
from vision_mlops.registry import compare as compare_versions
from vision_mlops.registry import open_registry

if TYPE_CHECKING:
    from vision_mlops.registry import ModelVersion
    from vision_mlops.registry.lineage import Link

app = typer.Typer(no_args_is_help=True)

app.command()(register.register)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(callback=filled, help="List the versions of this model.")] = None,
    json_: JsonOption = False,
) -> None:
    """List all models, or the versions of one. On Azure ML, archived versions are not listed.

    Example: `mlops models list textile`
    """
    registry = open_registry()
    if name is not None:
        rows = [_row(version) for version in registry.versions(name)]
        emit_table(rows, as_json=json_, empty=f"{name} has no versions; archived ones are not listed")
        return
    found = ((model, registry.versions(model)) for model in registry.models())
    models = [_model_row(model, versions) for model, versions in found if versions]
    emit_table(models, as_json=json_, empty="no models yet: `mlops run` trains one and registers it")


@app.command()
def show(ref: Ref, json_: JsonOption = False) -> None:
    """Show one version with its metrics.

    Example: `mlops models show textile@champion`
    """
    registry = open_registry()
    version = registry.get(ref)
    rows = [{"key": key, "value": value} for key, value in {**_row(version), "source": version.source}.items()]
    rows += [{"key": key, "value": f"{value:.6g}"} for key, value in version.metrics.items() if key != "accuracy"]
    emit_table(rows, as_json=json_, content=public(version))


@app.command()
def promote(
    ref: Ref,
    alias: Annotated[str, typer.Option("--alias", "-a", help="Alias to move to this version.")] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Also promote a version whose verdict is reject.")] = False,
    json_: JsonOption = False,
) -> None:
    """Make a version the champion, or give it another alias. Promoting the earlier version again rolls back.

    Example: `mlops models promote textile:3`
    """
    from vision_mlops.registry.version_index import UNFIT

    registry = open_registry()
    chosen = registry.get(ref)
    version = registry.promote(chosen.name, chosen.version, alias, force=force)
    previous = version.tags.get(f"{alias}.previous")
    note = f" (before: {version.name}:{previous})" if previous else ""
    if version.verdict in UNFIT:
        warn(f"the verdict on {version.reference} is {version.verdict}")
    emit(public(version), f"{version.name}@{alias} is {version.reference}{note}", as_json=json_)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(callback=filled, metavar="A", help=REF_HELP)],
    b: Annotated[str, typer.Argument(callback=filled, metavar="B", help="The other version; the difference is B - A.")],
    json_: JsonOption = False,
) -> None:
    """Compare the metrics of two versions.

    Example: `mlops models compare textile:2 textile@champion`
    """
    registry = open_registry()
    first, second = registry.get(a), registry.get(b)
    rows = compare_versions(first, second)
    if json_:
        emit_json({"a": first.reference, "b": second.reference, "metrics": rows})
        return
    if first.metrics and second.metrics and _evaluated_on(first) != _evaluated_on(second):
        warn(f"{first.reference} and {second.reference} were evaluated on different data")
    say(f"a is {first.reference}, b is {second.reference}")
    shown = [{key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    emit_table(shown, as_json=False, empty="neither version has metrics: register with --metrics")


@app.command()
def path(ref: Ref, json_: JsonOption = False) -> None:
    """Print the folder of the bundle of a version on this machine, to read from.

    Example: `mlops models path textile@champion`
    """
    from vision_mlops.registry.version_index import warning_about

    registry = open_registry()
    version = registry.get(ref)
    folder, warning = registry.bundle_path(version), warning_about(version, registry.versions(version.name))
    if warning and not json_:
        warn(warning)
    content = {"name": version.name, "version": str(version.version), "path": folder, "warning": warning}
    emit(content, str(folder), as_json=json_)


@app.command()
def download(
    ref: Ref,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, which must not exist.")],
    json_: JsonOption = False,
) -> None:
    """Write a verified copy of the bundle of a version.

    Example: `mlops models download textile@champion --out champion`
    """
    version = open_registry().download(ref, out)
    emit(public(version), f"wrote {version.reference} to {out}", as_json=json_)


app.command()(transfer_version.transfer)
app.command()(verdict.verdict)
app.command()(image.image)


@app.command()
def explain(ref: Ref, json_: JsonOption = False) -> None:
    """Show where a version came from: images, run, bundle, evaluation, verdict, promotions.

    Example: `mlops models explain textile@champion`
    """
    from vision_mlops.data.data_versions import reference_of
    from vision_mlops.registry import lineage

    registry = open_registry()
    version = registry.get(ref)
    links = lineage.explain(version, registry.history(version.name), reference_of(version.data_fingerprint))
    if json_:
        emit_json({"model": version.name, "version": version.version, "chain": [asdict(link) for link in links]})
        return
    _print_tree(version, links)


def _evaluated_on(version: ModelVersion) -> object:
    from vision_mlops.registry import lineage

    return lineage.stored_facts(version).get("evaluation_data")


def _row(version: ModelVersion) -> dict[str, Any]:
    accuracy = version.metrics.get("accuracy")
    return {
        "name": version.name,
        "version": version.version,
        "aliases": ", ".join(version.aliases),
        "accuracy": None if accuracy is None else round(accuracy, 4),
        "verdict": version.verdict,
        "created": version.created,
        "bundle_id": version.bundle_id,
        "data": version.data_fingerprint[:12],
        "git_commit": version.git_commit[:12],
    }


def _model_row(name: str, versions: list[ModelVersion]) -> dict[str, Any]:
    champion = next((version for version in versions if "champion" in version.aliases), None)
    accuracy = champion.metrics.get("accuracy") if champion else None
    return {
        "name": name,
        "versions": len(versions),
        "latest": versions[-1].version,
        "champion": champion.version if champion else None,
        "champion_accuracy": None if accuracy is None else round(accuracy, 4),
    }


def _print_tree(version: ModelVersion, links: list[Link]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(f"[bold]{escape(version.reference)}[/bold]")
    for link in links:
        branch = tree.add(f"[bold]{link.step}[/bold]  {escape(link.summary)}")
        if link.step == "data":
            for label, count in link.facts.get("classes", {}).items():
                branch.add(escape(f"{label}: {counted(count, 'image')}"))
        for reason in link.facts.get("reasons", []):
            mark = {True: "passed", False: "FAILED"}.get(reason.get("passed"), "note")
            branch.add(escape(f"{mark}  {reason.get('check')}: {reason.get('message')}"))
        for entry in link.facts.get("history", []):
            forced = ", against its verdict" if entry.get("forced") else ""
            before = f", before: version {entry['previous']}" if entry.get("previous") else ""
            branch.add(
                escape(f"{entry.get('at')}  {entry.get('alias')} -> version {entry.get('version')}{before}{forced}")
            )
    Console(width=width(1000), highlight=False).print(tree)
