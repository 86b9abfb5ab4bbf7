"""A project's own Python code, named as ``module:name`` in settings: found in the current folder, checked and imported.

What can be checked without running the code is checked so: which file a reference means, whether it is valid Python, and
whether the name is in it. A pipeline can be checked, and its code sent along, on a machine that lacks torch.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from vision_mlops.config.workload import Model, Workload
from vision_mlops.core.errors import ConfigError, MlopsError
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.import_graph import files_beside
from vision_mlops.core.text import closest


@dataclass(frozen=True, slots=True)
class CodeReference:
    """A name in a module.

    Attributes:
        text: ``module:name``.
        key: The setting that has it, for messages; empty where it is an argument.
    """

    text: str
    key: str = ""

    @property
    def module(self) -> str:
        """Full name of the module."""
        return self.text.partition(":")[0]

    @property
    def name(self) -> str:
        """The name in it."""
        return self.text.partition(":")[2]

    def __str__(self) -> str:
        """Return the reference as messages show it."""
        return f"{self.key}: {self.text}" if self.key else self.text


class OwnFunction:
    """A function of a project. What it raises becomes an error that names the file and line.

    Args:
        reference: The reference.
        parameters: Names of what it is given, by position.

    Raises:
        ConfigError: it cannot be loaded, is not a function, or does not take these parameters.
    """

    def __init__(self, reference: CodeReference, *parameters: str) -> None:
        self.reference = reference
        self._function: Callable[..., Any] = load(reference)
        if not callable(self._function) or isinstance(self._function, type):
            kind = "a class" if isinstance(self._function, type) else type(self._function).__name__
            raise ConfigError(
                f"{reference} is {kind}, not a function", f"define {reference.name}({', '.join(parameters)})"
            )
        check_call(reference, self._function, parameters)

    def __call__(self, *values: Any) -> Any:
        """Call the function. Raises ConfigError where it raises."""
        try:
            return self._function(*values)
        except MlopsError:
            raise
        except Exception as error:
            raise failed(self.reference, error) from error


def references(workload: Workload, sections: Iterable[str] = Workload.model_fields) -> list[CodeReference]:
    """List the own code that sections of a workload name."""
    found = [*model_references(workload.model)]
    found += _given("training.augment.transform", [workload.training.augment.transform])
    found += _given("evaluation.metrics", workload.evaluation.metrics)
    wanted = frozenset(sections)
    return [reference for reference in found if reference.key.partition(".")[0] in wanted]


def model_references(model: Model) -> list[CodeReference]:
    """List the own code of the network and its transform."""
    backbone = [model.backbone] if model.has_own_backbone else []
    return _given("model.backbone", backbone) + _given("model.transform", [model.transform])


def _given(key: str, texts: Iterable[str]) -> list[CodeReference]:
    return [CodeReference(text, key) for text in texts if text]


def source_file(reference: CodeReference, root: Path | None = None) -> Path | None:
    """Find and check the file of a reference's module in the project; None where the module is installed.

    Args:
        reference: The reference.
        root: Folder of the project; the current one where not given.

    Raises:
        ConfigError: the module does not exist, is hidden by an installed one, is not valid Python, or lacks the name.
    """
    root, parts = root or Path.cwd(), reference.module.split(".")
    installed = _installed(parts[0], root)
    own = next((path for path in (root / f"{parts[0]}.py", root / parts[0]) if path.exists()), None)
    if own is None or (installed and _is_same(own, installed)):
        if installed or own is not None:
            return None
        raise ConfigError(
            f"{reference}: the module {parts[0]!r} is neither in {root} nor installed",
            f"give module:name of a Python file in the project's folder, such as {_example(parts)}",
        )
    if installed:
        raise ConfigError(
            f"{reference}: {own} has the name of an installed module ({installed}), which Python imports instead",
            "rename the file or folder of the project",
        )
    place = root.joinpath(*parts)
    file = next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)
    if file is None:
        raise ConfigError(f"{reference}: {root} has no {place.with_suffix('.py').relative_to(root)}", "create the file")
    names = _names(file, reference)
    if names is not None and reference.name not in names:
        raise _lacks(reference, names, file)
    return file


def source_files(reference: CodeReference) -> list[Path]:
    """List the files of the current folder that a reference needs, relative to it; empty where the module is installed.

    They are the file of its module, those that this imports, and those beside one that it names.

    Raises:
        ConfigError: as of :func:`source_file`.
    """
    file = source_file(reference)
    if file is None:
        return []
    try:
        return files_beside(file, Path.cwd())
    except (SyntaxError, ValueError) as error:
        raise _not_python(reference, error) from error


def source_hashes(wanted: Iterable[CodeReference]) -> dict[str, str]:
    """Hash the files of references, by their path in the project; of an installed module, its own file."""
    found: dict[str, str] = {}
    for reference in wanted:
        files = source_files(reference)
        found |= {path.as_posix(): file_hash(Path.cwd() / path) for path in files}
        if not files:
            origin = getattr(import_module(reference), "__file__", None)
            found[f"{reference.module} (installed)"] = file_hash(Path(origin)) if origin else ""
    return dict(sorted(found.items()))


def load(reference: CodeReference) -> Any:
    """Import what a reference names.

    Raises:
        ConfigError: as of :func:`source_file`, or the module cannot be imported.
    """
    file = source_file(reference)
    module = import_module(reference)
    if not hasattr(module, reference.name):
        raise _lacks(reference, {name for name in vars(module) if not name.startswith("_")}, file)
    return getattr(module, reference.name)


def import_module(reference: CodeReference) -> Any:
    """Import the module of a reference; what it prints goes to standard error.

    Raises:
        ConfigError: it does not exist, needs a package that is not installed, or fails.
    """
    root = str(Path.cwd())
    if root not in sys.path:  # a console script does not look into the current folder
        sys.path.append(root)  # last, where a file of a common name hides no package
    try:
        with redirect_stdout(sys.stderr):
            return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        if not f"{reference.module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{reference} needs the package {error.name!r}, which is not installed", "install it beside mlops"
            ) from error
        raise ConfigError(
            f"{reference}: no module is called {reference.module!r}",
            f"give module:name of a Python file in {root}, such as {_example(reference.module.split('.'))}",
        ) from error
    except SyntaxError as error:
        raise _not_python(reference, error) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{reference}: the module {reference.module!r} cannot be imported: {_raised(error)}", "fix the file"
        ) from error


def check_call(reference: CodeReference, function: Callable[..., Any], parameters: Iterable[str]) -> None:
    """Raise ConfigError if a function does not accept these values by position."""
    given = tuple(parameters)
    try:
        signature = inspect.signature(function)
    except ValueError:  # Python does not know it of some functions in C
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        call = f"{reference.name}({', '.join(given)})"
        raise ConfigError(f"{reference}{signature} cannot be called as {call}: {error}", f"define {call}") from error


def failed(reference: CodeReference, error: BaseException) -> ConfigError:
    """Return the error for what own code has raised, with the file and line of the project where it was raised."""
    return ConfigError(f"{reference} failed: {_raised(error)}", "`mlops --verbose ...` shows the whole traceback")


def _raised(error: BaseException) -> str:
    """Return the last line of a traceback, with the innermost place in the current folder, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename))]
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if not own:
        return said
    return f"{_shown(Path(own[-1].filename))}:{own[-1].lineno}: {said}"


def _is_own(file: Path) -> bool:
    return file.is_relative_to(Path.cwd()) and not file.is_relative_to(Path(sys.prefix)) and file.is_file()


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _installed(top: str, root: Path) -> str:
    """Say where a module lies that Python finds before those of the current folder; empty if there is none."""
    if top in sys.stdlib_module_names:
        return "Python's own"
    others = [place for place in sys.path if Path(place or ".").resolve() != root]
    spec = PathFinder.find_spec(top, others)
    if spec is None:
        return ""
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "installed")


def _is_same(own: Path, installed: str) -> bool:
    """Return whether the project itself is what is installed, as with ``pip install --editable``."""
    return own.resolve() in (Path(installed).resolve(), Path(installed).resolve().parent)


def _names(file: Path, reference: CodeReference) -> set[str] | None:
    """List what a module defines at its top level; None where only running it can show that."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise _not_python(reference, error) from error
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            waiting += ast.iter_child_nodes(node)
    return None if names & {"*", "__getattr__"} else names


def _lacks(reference: CodeReference, names: Iterable[str], file: Path | None) -> ConfigError:
    near = closest(reference.name, names)
    where = str(_shown(file)) if file else f"the module {reference.module}"
    return ConfigError(
        f"{reference}: {where} has no {reference.name!r}",
        f"did you mean {near[0]!r}?" if near else f"define {reference.name} in it",
    )


def _not_python(reference: CodeReference, error: SyntaxError | ValueError) -> ConfigError:
    if isinstance(error, SyntaxError):
        place = f"{_shown(Path(error.filename))}:{error.lineno}" if error.filename else reference.module
        return ConfigError(f"{reference}: {place}: not valid Python: {error.msg}", "fix that line")
    return ConfigError(f"{reference}: the file is not valid Python: {error}", "save it as UTF-8 text")


def _example(parts: list[str]) -> str:
    return f"{'.'.join(parts)}:name of {'/'.join(parts)}.py"
