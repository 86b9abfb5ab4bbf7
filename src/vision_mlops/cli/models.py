"""``mlops models``: the model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.gate import FailOnVerdict, exit_on
from vision_mlops.cli.output import emit_json, emit_table, say, warn, width
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.registry import ModelVersion, Registry
    from vision_mlops.registry.lineage import Link

app = typer.Typer(no_args_is_help=True, help="Register, compare, promote and explain models.")

Ref = Annotated[str, typer.Argument(metavar="REF", help="`NAME` (latest), `NAME:3` or `NAME@champion`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def register(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder that `mlops train` wrote.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Model to add a version to; created when new.")],
    metrics: Annotated[Path | None, typer.Option("--metrics", help="metrics.json of `mlops evaluate`.")] = None,
    verdict: Annotated[Path | None, typer.Option("--verdict", help="verdict.json of `mlops gate`.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared data it was trained on, for lineage.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it champion, unless it was rejected.")] = False,
    promote_if_passed: Annotated[
        bool, typer.Option("--promote-if-passed", help="Make it champion where its verdict is promote.")
    ] = False,
    fail_on: Annotated[
        FailOnVerdict, typer.Option("--fail-on", help="Verdict that gives exit code 1, after it is registered.")
    ] = FailOnVerdict.NEVER,
    force: Annotated[bool, typer.Option("--force", help="Add a version though this bundle is registered.")] = False,
    json_: JsonOption = False,
) -> None:
    """Verify a bundle and store it as the next version; the identical bundle again gives the version it has.

    Example: `mlops models register --bundle outputs/bundle --name textile --verdict verdict.json --promote`
    """
    from vision_mlops.evaluation.gate import read_verdict
    from vision_mlops.registry import CHAMPION

    decision = read_verdict(verdict)["decision"] if verdict else ""
    if (promote_if_passed or fail_on is not FailOnVerdict.NEVER) and not decision:
        raise MlopsError("--promote-if-passed and --fail-on need --verdict", "give the verdict.json of `mlops gate`")
    aliases = (CHAMPION,) if promote or (promote_if_passed and decision == "promote") else ()
    version = _registry().register(
        bundle, name, metrics=metrics, verdict=verdict, data=data, aliases=aliases, force=force
    )
    _emit_version(version, as_json=json_, text=f"registered {version.reference}{_suffix(version)}")
    exit_on(decision, fail_on)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Show the versions of this model.")] = None,
    json_: JsonOption = False,
) -> None:
    """List all models, or the versions of one.

    Example: `mlops models list textile`
    """
    registry = _registry()
    if name is not None:
        rows = [_row(version) for version in registry.versions(name)]
        emit_table(rows, as_json=json_, empty=f"{name} has no versions")
        return
    models = [_model_row(model, registry.versions(model)) for model in registry.models()]
    emit_table(models, as_json=json_, empty="no models yet: mlops models register --help")


@app.command()
def show(ref: Ref, json_: JsonOption = False) -> None:
    """Show one version with its metrics.

    Example: `mlops models show textile@champion`
    """
    registry = _registry()
    version = registry.get(ref)
    if json_:
        emit_json(_public(version))
        return
    rows = [{"key": key, "value": value} for key, value in {**_row(version), "source": version.source}.items()]
    rows += [{"key": key, "value": f"{value:.6g}"} for key, value in version.metrics.items() if key != "accuracy"]
    emit_table(rows, as_json=False)


@app.command()
def promote(
    ref: Ref,
    alias: Annotated[str, typer.Option("--alias", "-a", help="Alias to move to this version.")] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Also where its verdict is reject.")] = False,
    json_: JsonOption = False,
) -> None:
    """Make a version the champion, or give it another alias. Promoting the earlier version again rolls back.

    Example: `mlops models promote textile:3`
    """
    from vision_mlops.registry.version_index import UNFIT

    registry = _registry()
    chosen = registry.get(ref)
    version = registry.promote(chosen.name, chosen.version, alias, force=force)
    previous = version.tags.get(f"{alias}.previous")
    note = f" (before: {version.name}:{previous})" if previous else ""
    if version.verdict in UNFIT:
        warn(f"the verdict on {version.reference} is reject")
    _emit_version(version, as_json=json_, text=f"{version.name}@{alias} is {version.reference}{note}")


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="`NAME`, `NAME:3` or `NAME@champion`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one; the difference is B - A.")],
    json_: JsonOption = False,
) -> None:
    """Compare the metrics of two versions.

    Example: `mlops models compare textile:2 textile@champion`
    """
    from vision_mlops.registry import compare as compare_versions

    registry = _registry()
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
    """Print the folder of a version's bundle on this machine, to read from.

    Example: `mlops models path textile@champion`
    """
    from vision_mlops.registry.version_index import warning_about

    registry = _registry()
    version = registry.get(ref)
    folder, warning = registry.bundle_path(version), warning_about(version, registry.versions(version.name))
    if json_:
        emit_json({"name": version.name, "version": str(version.version), "path": folder, "warning": warning})
        return
    if warning:
        warn(warning)
    typer.echo(folder)


@app.command()
def download(
    ref: Ref,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist.")],
    json_: JsonOption = False,
) -> None:
    """Write a verified copy of a version's bundle.

    Example: `mlops models download textile@champion --out champion`
    """
    version = _registry().download(ref, out)
    _emit_version(version, as_json=json_, text=f"{version.reference} is in {out}")


@app.command()
def transfer(
    ref: Ref,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="`mlflow`, `azure`, `azureml://registries/NAME` or `azureml://workspaces/NAME`.",
            metavar="PLACE",
        ),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="PLACE", help="Registry that has it; that of this environment.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Another name there.")] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", "-a", help="Alias to give it there. Repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Give the alias also where its verdict is reject.")] = False,
    json_: JsonOption = False,
) -> None:
    """Copy a version, the same bundle with all that is known about it, to another registry.

    Example: `mlops models transfer textile@champion --to azureml://registries/mlr-vision`
    """
    from vision_mlops.registry import open_registry
    from vision_mlops.registry.registry_transfer import transfer as run

    version = run(open_registry(from_), ref, open_registry(to), name=name, aliases=alias or (), force=force)
    _emit_version(version, as_json=json_, text=f"{version.reference}{_suffix(version)} is in {to}")


@app.command()
def explain(ref: Ref, json_: JsonOption = False) -> None:
    """Show where a version came from: images, run, bundle, evaluation, verdict, promotions.

    Example: `mlops models explain textile@champion`
    """
    from vision_mlops.data.data_versions import reference_of
    from vision_mlops.registry import lineage

    registry = _registry()
    version = registry.get(ref)
    links = lineage.explain(version, registry.history(version.name), reference_of(version.data_fingerprint))
    if json_:
        emit_json({"model": version.name, "version": version.version, "chain": [link.to_dict() for link in links]})
        return
    _print_tree(version, links)


def _registry() -> Registry:
    from vision_mlops.registry import open_registry

    return open_registry()


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
        "latest": versions[-1].version if versions else None,
        "champion": champion.version if champion else None,
        "champion_accuracy": None if accuracy is None else round(accuracy, 4),
    }


def _public(version: ModelVersion) -> dict[str, Any]:
    """A version for JSON; the stored facts are what `explain` prints."""
    content = version.to_dict()
    content["tags"] = {key: value for key, value in version.tags.items() if not key.startswith("mlops.")}
    return {"reference": version.reference, **content}


def _emit_version(version: ModelVersion, *, as_json: bool, text: str) -> None:
    if as_json:
        emit_json(_public(version))
    else:
        typer.echo(text)


def _suffix(version: ModelVersion) -> str:
    parts = [f"@{alias}" for alias in version.aliases] + ([f"verdict {version.verdict}"] if version.verdict else [])
    return f" ({', '.join(parts)})" if parts else ""


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
