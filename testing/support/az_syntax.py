"""Write ``az_syntax.json``: the options of the `az` commands in this repository, as the real azure-cli has them.

Run it with a Python that has azure-cli, which is too large for the environment of the tests (730 MB):

    python -m venv /tmp/azure-cli && /tmp/azure-cli/bin/pip install azure-cli
    /tmp/azure-cli/bin/python testing/support/az_syntax.py
"""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("az_syntax.json")
PLACES = ("infrastructure", "docs", "src", "environments", "ado_pipelines", ".github", ".ci", "Makefile")
_LINE = re.compile(r"(?<![\w/.-])(?<!of )az ((?:[a-z][a-z0-9-]+ ?)+)")


def words() -> set[tuple[str, ...]]:
    """What follows an `az` anywhere: the command, and perhaps more."""
    found: set[tuple[str, ...]] = set()
    for place in PLACES:
        for path in [ROOT / place, *(ROOT / place).rglob("*")]:
            if path.is_file() and path.suffix in ("", ".mk", ".sh", ".md", ".py", ".yml"):
                found |= {tuple(match[1].split()) for match in _LINE.finditer(path.read_text(encoding="utf-8"))}
    return found


def commands_of(invocation: Any) -> dict[str, Any]:
    """Each command with its options, by the first names of which it is found, what is required, and enumerations."""
    described: dict[str, Any] = {}
    loader = invocation.commands_loader
    invocation.data["command_string"] = ""
    known = loader.load_command_table(None)
    for said in words():
        name = next((" ".join(said[:n]) for n in range(len(said), 0, -1) if " ".join(said[:n]) in known), None)
        if name is None or name in described:
            continue
        invocation.data["command_string"] = name
        loader.load_arguments(name)
        options, required, choices = [], [], {}
        for argument in loader.command_table[name].arguments.values():
            settings = argument.type.settings
            names = [str(getattr(item, "target", item)) for item in settings.get("options_list") or []]
            names = [item for item in names if item.startswith("-") and item != "--cmd"]  # its own argument
            if not names:
                continue
            names.sort(key=lambda item: not item.startswith("--"))
            options.append(names)
            if settings.get("required"):
                required.append(names[0])
            if settings.get("choices"):
                choices[names[0]] = sorted(map(str, settings["choices"]))
        options += [["--output", "-o"], ["--query"], ["--only-show-errors"], ["--subscription"]]
        described[name] = {"options": options, "required": required, "choices": choices}
    return dict(sorted(described.items()))


def main() -> None:
    """Write the file anew."""
    os.environ.setdefault("AZURE_CONFIG_DIR", tempfile.mkdtemp())
    os.environ.update(AZURE_CORE_COLLECT_TELEMETRY="0", AZURE_EXTENSION_USE_DYNAMIC_INSTALL="no")
    cli = importlib.import_module("azure.cli.core").get_default_cli()
    invocation = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    cli.invocation = invocation  # loaders ask it which command is meant
    described = commands_of(invocation)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in described.items())
    FILE.write_text(f'{{"azure-cli": "{version("azure-cli")}", "commands": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
