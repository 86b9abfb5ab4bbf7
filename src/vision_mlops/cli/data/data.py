"""``mlops data``: the commands about images, and their group."""

from __future__ import annotations

import typer

from vision_mlops.cli.data import add_labels, check, fetch, prepare, transfer, versions

app = typer.Typer(
    no_args_is_help=True,
    help="Download images, check and prepare them, keep versions of them, and bring them to and from storage.",
)
app.command("fetch")(fetch.fetch)
app.command("check")(check.check)
app.command("register")(versions.register)
app.command("list")(versions.list_)
app.command("show")(versions.show)
app.command("add-labels")(add_labels.add_labels)
app.command("upload")(transfer.upload)
app.command("download")(transfer.download)
app.command("prepare")(prepare.prepare)
