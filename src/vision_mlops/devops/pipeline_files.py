"""What the pipelines of a project refer to: service connections, environments, variable groups, pools, and each other.

The files are read as Azure Pipelines expands them: templates are followed with the parameters that they get, and variables
come from the lists and templates of the pipeline, the stage or the job. The result is exactly what a pipeline can use in a
run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.paths import repository
from vision_mlops.core.yaml_text import read_mapping
from vision_mlops.devops.pipeline_values import Choices, Scope, is_expression, loop_of

FOLDER = Path("ado_pipelines")
AZURE, DOCKER, GITHUB = "azurerm", "dockerregistry", "github"
"""Types of service connections, by their names in Azure DevOps."""
HOSTED = "Azure Pipelines"
"""Pool of the agents hosted by Microsoft, which every project has."""
_SUFFIX = "_pipeline"
_DEEPEST = 50
_INPUTS = {
    "azuresubscription": AZURE,
    "azureserviceconnection": AZURE,
    "azureresourcemanagerconnection": AZURE,
    "connectedservicename": AZURE,
    "connectedservicenamearm": AZURE,
    "containerregistry": DOCKER,
    "dockerregistryendpoint": DOCKER,
    "dockerregistryserviceconnection": DOCKER,
}
_CALLBACK = "/_apis/pipelines/$(System.DefinitionId)/runs"


@dataclass
class PipelineUse:
    """What one pipeline uses.

    Attributes:
        name: In Azure DevOps.
        path: Of its YAML, from the root of the repository.
        connections: Names of service connections, with the type of each.
        environments: Names.
        groups: Names of variable groups.
        pools: Names of own agent pools.
        sources: Names of pipelines whose runs start it.
        starts: Names of pipelines that its variables name.
        called_back: Whether a job that it starts calls it back.
        for_pull_requests: Whether it runs for pull requests.
        variables: All values of its variables, by name.
    """

    name: str
    path: str
    connections: dict[str, str] = field(default_factory=dict)
    environments: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    pools: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    starts: set[str] = field(default_factory=set)
    called_back: bool = False
    for_pull_requests: bool = False
    variables: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class PipelineFiles:
    """The pipelines of a project, and the environment that each name belongs to."""

    pipelines: list[PipelineUse]
    stages: dict[str, str]
    group_variables: dict[str, bool]

    def stage_of(self, name: str, stages: tuple[str, ...]) -> str:
        """Return the environment whose variables have a name, or whose own name is a word of it; else the first."""
        if name in self.stages:
            return self.stages[name]
        return next((stage for stage in stages if stage in name.replace("_", "-").split("-")), stages[0])


def read_pipelines(root: Path) -> PipelineFiles:
    """Read the pipelines below ``ado_pipelines`` of a project.

    Raises:
        PipelineError: a file is missing or cannot be read, or a name that must be known before a run is not.
    """
    folder = root / FOLDER
    files = sorted(folder.glob(f"*{_SUFFIX}.yml"))
    if not files:
        raise PipelineError(
            f"{folder} has no pipelines (*{_SUFFIX}.yml)", "run this in the root of a project, or give --root"
        )
    uses = [_Walk(root, file).use for file in files]
    names = {use.name for use in uses}
    for use in uses:
        use.starts = {value for values in use.variables.values() for value in values} & (names - {use.name})
        for source in use.sources - names:
            raise PipelineError(
                f"{use.path}: resources.pipelines names the source {source!r}, not one of {', '.join(sorted(names))}",
                "use the name of its pipeline: that of the file without _pipeline.yml",
            )
    return PipelineFiles(uses, _stages(folder), _group_variables(folder))


def no_pipelines(environments: Iterable[str]) -> PipelineFiles:
    """Return the files of a project that has only workflows at GitHub, which read the same variables as pipelines.

    Args:
        environments: Of the workflows; the last word of each is the environment of Azure that it belongs to.
    """
    return PipelineFiles(
        [], {name: name.rpartition("-")[2] for name in environments}, _group_variables(repository() / FOLDER)
    )


def _stages(folder: Path) -> dict[str, str]:
    """Find names that occur in only one file of variables, with the name of that file."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted((folder / "variables").glob("*.yml")):
        for item in _variable_items(read_mapping(file).get("variables")):
            value = item.get("group") or item.get("value")
            if isinstance(value, str) and value:
                found[value].add(file.stem)
    return {
        value: stages.copy().pop()
        for value, stages in found.items()
        if len(stages) == 1 and not stages & {"pipeline_variables", "group_variables"}
    }


def _group_variables(folder: Path) -> dict[str, bool]:
    """Read the variables of the groups, and whether each is required; none without such a file."""
    file = folder / "variables" / "group_variables.yml"
    items = _variable_items(read_mapping(file).get("variables")) if file.exists() else []
    return {str(item["name"]): bool(item.get("required")) for item in items if "name" in item}


class _Walk:
    """Reads one pipeline into a :class:`PipelineUse`."""

    def __init__(self, root: Path, file: Path) -> None:
        self._root, self._depth = root, 0
        self.use = PipelineUse(file.stem.removesuffix(_SUFFIX), file.relative_to(root).as_posix())
        content = read_mapping(file)
        self.use.for_pull_requests = "pr" in content and content["pr"] != "none"
        self._template(file, content, Scope(), {})

    def _template(self, file: Path, content: dict[str, Any], scope: Scope, given: Mapping[str, Choices]) -> None:
        inner = Scope({**_defaults(content.get("parameters")), **given}, scope.variables)
        self._node({key: value for key, value in content.items() if key != "parameters"}, inner, file)

    def _node(self, node: Any, scope: Scope, file: Path) -> None:
        if isinstance(node, list):
            for item in node:
                self._node(item, scope, file)
            return
        if not isinstance(node, dict):
            return
        if "variables" in node:
            scope = scope.with_variables(self._variables(node["variables"], scope, file))
        if "template" in node:
            self._follow(node, scope, file)
            return
        self._names(node, scope, file)
        for key, value in node.items():
            if key == "variables":
                continue
            if (loop := loop_of(key)) is not None:
                kept = scope.parameters if loop[1] == "parameters" else scope.variables
                items = tuple(item for choice in kept.get(loop[2], ()) for item in _items(choice))
                self._node(value, scope.with_bound(loop[0], items), file)
            else:
                self._node(value, scope, file)

    def _follow(self, node: dict[str, Any], scope: Scope, file: Path) -> None:
        given = node.get("parameters") or {}
        flat = dict(_flattened(given)) if isinstance(given, dict) else {}
        passed = {str(key): scope.choices(value) for key, value in flat.items()}
        # Lists of steps or jobs that are passed to a template belong to the place where they are written.
        for value in flat.values():
            if isinstance(value, list | dict):
                self._node(value, scope, file)
        if self._depth == _DEEPEST:
            raise PipelineError(
                f"{self._shown(file)}: a template uses itself, or templates are nested more than {_DEEPEST} deep",
                "remove the cycle",
            )
        self._depth += 1
        for path in self._required(str(node["template"]), scope, file, "template"):
            target = self._file(path, file)
            self._template(target, read_mapping(target), scope, passed)
        self._depth -= 1

    def _file(self, path: str, file: Path) -> Path:
        name = path.partition("@self")[0]
        target = self._root / name.lstrip("/") if name.startswith("/") else file.parent / name
        if not target.is_file():
            raise PipelineError(f"{self._shown(file)}: the template {path!r} does not exist", "check its path")
        return target

    def _variables(self, node: Any, scope: Scope, file: Path) -> dict[str, Choices]:
        found: dict[str, list[Any]] = defaultdict(list)
        for item in _variable_items(node):
            inner = scope.with_variables({name: tuple(values) for name, values in found.items()})
            if "group" in item:
                self.use.groups |= set(self._required(str(item["group"]), inner, file, "group"))
            elif "template" in item:
                given = item.get("parameters") or {}
                for path in self._required(str(item["template"]), inner, file, "template"):
                    target = self._file(path, file)
                    content = read_mapping(target)
                    passed = {str(key): inner.choices(value) for key, value in given.items()}
                    below = Scope({**_defaults(content.get("parameters")), **passed}, inner.variables)
                    for name, choices in self._variables(content.get("variables"), below, target).items():
                        found[name] += [choice for choice in choices if choice not in found[name]]
            elif "name" in item and "value" in item:
                value = item["value"]
                self.use.called_back |= isinstance(value, str) and _CALLBACK in value
                choices = inner.choices(value)
                found[item["name"]] += [choice for choice in choices if choice not in found[item["name"]]]
                self.use.variables[item["name"]] |= {str(choice) for choice in choices}
        return {name: tuple(values) for name, values in found.items()}

    def _names(self, node: dict[str, Any], scope: Scope, file: Path) -> None:
        if "deployment" in node and "environment" in node:
            wanted = node["environment"]
            text = str(wanted["name"]) if isinstance(wanted, dict) else str(wanted)
            for value in self._required(text, scope, file, "environment"):
                self.use.environments.add(value.partition(".")[0])
        for key, value in dict(_flattened(node.get("inputs") or {})).items():
            if (kind := _INPUTS.get(str(key).lower())) and isinstance(value, str):
                self._connect(value, kind, scope, file, str(key))
        container = node.get("container")
        if isinstance(container, dict) and container.get("endpoint"):
            self._connect(str(container["endpoint"]), DOCKER, scope, file, "endpoint")
        pool = node.get("pool")
        wanted = dict(_flattened(pool)).get("name") if isinstance(pool, dict) else pool
        if isinstance(wanted, str):
            self.use.pools |= {name for name in scope.values(wanted) or () if name and name != HOSTED}
        resources = node.get("resources")
        if isinstance(resources, dict):
            self._resources(resources, scope, file)

    def _resources(self, resources: dict[str, Any], scope: Scope, file: Path) -> None:
        for item in resources.get("containers") or ():
            if item.get("endpoint"):
                self._connect(str(item["endpoint"]), DOCKER, scope, file, "endpoint")
            if item.get("azureSubscription"):
                self._connect(str(item["azureSubscription"]), AZURE, scope, file, "azureSubscription")
        for item in resources.get("repositories") or ():
            if item.get("endpoint"):
                self._connect(str(item["endpoint"]), GITHUB, scope, file, "endpoint")
        for item in resources.get("pipelines") or ():
            self.use.sources |= set(self._required(str(item.get("source") or ""), scope, file, "source"))

    def _connect(self, text: str, kind: str, scope: Scope, file: Path, key: str) -> None:
        for name in self._required(text, scope, file, key):
            self.use.connections[name] = kind

    def _required(self, text: str, scope: Scope, file: Path, key: str) -> tuple[str, ...]:
        """Return all values of a text, which Azure Pipelines must know before a run."""
        found = scope.values(text)
        if not found or not all(found):
            raise PipelineError(
                f"{self._shown(file)}, used by {self.use.path}: {key}: {text} has no value before a run",
                "write the name itself, or a variable of the pipeline or of a file in variables/",
            )
        return found

    def _shown(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()


def _defaults(parameters: Any) -> dict[str, Choices]:
    """Return all values of parameters that are not passed: those that are allowed, else the default."""
    if isinstance(parameters, dict):
        return {str(name): (value,) for name, value in parameters.items()}
    found: dict[str, Choices] = {}
    for item in parameters or ():
        if "values" in item:
            found[item["name"]] = tuple(item["values"])
        elif "default" in item:
            found[item["name"]] = (item["default"],)
    return found


def _variable_items(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the variables of a list or a mapping, including those in conditions."""
    if isinstance(node, list):
        for item in node:
            if isinstance(item, dict) and all(map(is_expression, item)):
                for inner in item.values():
                    yield from _variable_items(inner)
            elif isinstance(item, dict):
                yield item
    elif isinstance(node, dict):
        for name, value in node.items():
            if is_expression(name):
                yield from _variable_items(value)
            else:
                yield {"name": name, "value": value}


def _flattened(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield keys and values of a mapping, including those in conditions."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if is_expression(key) and isinstance(value, dict):
            yield from _flattened(value)
        elif not is_expression(key):
            yield key, value


def _items(choice: Any) -> tuple[Any, ...]:
    if isinstance(choice, dict):
        return tuple({"key": key, "value": value} for key, value in choice.items())
    return tuple(choice) if isinstance(choice, list | tuple) else (choice,)
