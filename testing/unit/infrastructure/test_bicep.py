"""The Bicep files, as far as text can tell: parsed, every name resolved, no keys. No compiler is at hand."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path

import pytest
from testing.support.bicep_files import (
    ROOT,
    BicepFile,
    outputs_used,
    properties,
    read,
    read_parameters,
    references,
    text,
    walk,
)

MODULES = sorted((ROOT / "modules").glob("*.bicep"))
FILES = [ROOT / "main.bicep", ROOT / "aks" / "cluster.bicep", *MODULES]
ENVIRONMENTS = sorted((ROOT / "parameters").glob("*.bicepparam"))
ROLES: dict[str, str] = json.loads((ROOT / "modules" / "roles.json").read_text(encoding="utf-8"))


def named(path: Path) -> str:
    return path.name


@pytest.fixture(params=FILES, ids=named)
def file(request: pytest.FixtureRequest) -> BicepFile:
    return read(request.param)


def problems(file: BicepFile) -> list[str]:
    """All that a compiler would say about names."""
    found = [f"{name} is unknown" for name in sorted(set(references(file.tree)) - file.names - file.outputs)]
    for module in file.modules.values():
        if not module.path.is_file():
            found.append(f"{module.symbol}: there is no {module.path.name}")
            continue
        used = read(module.path)
        found += [f"{module.symbol}: no parameter {name}" for name in module.given if name not in used.parameters]
        found += [f"{module.symbol}: parameter {name} is missing" for name in sorted(used.required - {*module.given})]
    for symbol, output in outputs_used(file.tree):
        if symbol not in file.modules:
            found.append(f"{symbol}.outputs: {symbol} is no module")
        elif (path := file.modules[symbol].path).is_file() and output not in read(path).outputs:
            found.append(f"{symbol} has no output {output}")
    return found


def test_every_reference_resolves(file: BicepFile) -> None:
    assert problems(file) == []


def test_nothing_is_declared_in_vain(file: BicepFile) -> None:
    used = set(references(file.tree))
    # A declaration's own name is an identifier of the tree, too: what counts is a second one.
    counts = [text(node) for node in walk(file.tree) if node.type == "identifier"]
    unused = [name for name in {*file.parameters, *file.variables} if name not in used or counts.count(name) < 2]
    assert unused == []


def test_a_module_that_may_not_be_there_is_used_with_care(file: BicepFile) -> None:
    source = file.path.read_text(encoding="utf-8")
    for module in file.modules.values():
        uses = re.findall(rf"\b{module.symbol}(!?)\.outputs", source)
        assert set(uses) <= ({"!"} if module.conditional else {""}), module.symbol


def test_versions_are_those_of_an_api(file: BicepFile) -> None:
    for item in file.resources.values():
        assert re.fullmatch(r"Microsoft\.\w+(/\w+)+", item.kind), item.kind
        assert re.fullmatch(r"20[12]\d-(0[1-9]|1[0-2])-([012]\d|3[01])(-preview)?", item.version), item.symbol


def test_a_kind_of_resource_has_one_version() -> None:
    found: dict[str, set[str]] = {}
    for item in chain.from_iterable(read(path).resources.values() for path in FILES):
        found.setdefault(item.kind, set()).add(item.version)
    assert {kind: versions for kind, versions in found.items() if len(versions) > 1} == {}


def test_modules_are_used() -> None:
    used = {module.path for path in FILES for module in read(path).modules.values()}
    assert [path.name for path in MODULES if path not in used] == []


def test_modules_do_not_wait_for_each_other_in_a_circle() -> None:
    main = read(ROOT / "main.bicep")

    def needs(symbols: set[str], seen: frozenset[str]) -> set[str]:
        new = {name for symbol in symbols for name in _needed(main, symbol)} - seen
        return new | (needs(new, seen | new) if new else set())

    assert [symbol for symbol in main.modules if symbol in needs({symbol}, frozenset())] == []


def _needed(file: BicepFile, symbol: str) -> set[str]:
    """What a module or variable refers to."""
    if symbol in file.modules:
        nodes = list(file.modules[symbol].given.values())
    else:
        nodes = [file.variables[symbol]] if symbol in file.variables else []
    return set(chain.from_iterable(map(references, nodes))) & file.names


def test_roles_are_known_and_used() -> None:
    granted: set[str] = set()
    for path in FILES:
        for module in read(path).modules.values():
            granted |= set(properties(module.given["grants"])) if "grants" in module.given else set()
    assert granted - set(ROLES) == set(), "no id in roles.json"
    scripts = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.sh"))
    assert {role for role in set(ROLES) - granted if role not in scripts} == set(), "nobody gets it"
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", guid) for guid in ROLES.values())
    assert len(set(ROLES.values())) == len(ROLES)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=named)
def test_parameters_of_an_environment(path: Path) -> None:
    used, values = read_parameters(path)
    main = read(used)
    assert used == ROOT / "main.bicep"
    assert set(values) - set(main.parameters) == set(), "no such parameter"
    assert main.required - set(values) == set(), "not given"
    kinds = {"string": "string", "boolean": "bool", "number": "int"}
    for name, value in values.items():
        if value.type in kinds:
            assert main.parameters[name] == kinds[value.type], name
        assert text(value) in main.allowed.get(name, {text(value)}), name
    assert text(values["environmentName"]) == path.stem


def test_the_isolated_profile_gets_what_it_needs() -> None:
    for path in ENVIRONMENTS:
        values = read_parameters(path)[1]
        if text(values["isolated"]) == "true":
            assert text(values["registrySku"]) == "Premium", "private endpoints"


@pytest.mark.parametrize(
    ("module", "property_", "value"),
    [
        ("storage", "allowSharedKeyAccess", "false"),
        ("storage", "allowBlobPublicAccess", "false"),
        ("storage", "minimumTlsVersion", "TLS1_2"),
        ("workspace", "systemDatastoresAuthMode", "Identity"),
        ("key_vault", "enableRbacAuthorization", "true"),
        ("key_vault", "enablePurgeProtection", "true"),
        ("registry", "adminUserEnabled", "false"),
        ("kubernetes", "disableLocalAccounts", "true"),
        ("kubernetes", "enableAzureRBAC", "true"),
        ("custom_vision", "disableLocalAuth", "true"),
        ("compute_cluster", "disableLocalAuth", "true"),
        ("compute_instance", "disableLocalAuth", "true"),
        ("app_service", "httpsOnly", "true"),
        ("app_service", "allow", "false"),
    ],
)
def test_sign_ins_and_roles_only(module: str, property_: str, value: str) -> None:
    tree = read(ROOT / "modules" / f"{module}.bicep").tree
    found = {text(found[property_]) for node in walk(tree) if property_ in (found := properties(node))}
    assert found == {value}


def test_no_template_reads_a_key() -> None:
    for path in FILES:
        calls = {text(node.named_children[0]) for node in walk(read(path).tree) if node.type == "call_expression"}
        assert not [
            name for name in calls if re.search(r"(?i)listkeys|listcredentials|listsecrets|getsecret|list\w*sas", name)
        ]


def test_a_cluster_of_the_workspace_costs_nothing_when_idle() -> None:
    cluster = read(ROOT / "modules" / "compute_cluster.bicep").tree
    assert {text(found["minNodeCount"]) for node in walk(cluster) if "minNodeCount" in (found := properties(node))} == {
        "0"
    }
    instance = (ROOT / "modules" / "compute_instance.bicep").read_text(encoding="utf-8")
    assert "idleTimeBeforeShutdown: idleTime" in instance


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("storage.outputs.id", "storage.outputs.ident", "storage has no output ident"),
        ("modules/storage.bicep", "modules/storrage.bicep", "storage: there is no storrage.bicep"),
        ("    sku: storageSku\n", "", "storage: parameter sku is missing"),
        ("    sku: storageSku\n", "    skew: storageSku\n", "storage: no parameter skew"),
        ("tags: tags", "tags: tag", "tag is unknown"),
        ("workspace.outputs.name", "workspaces.outputs.name", "workspaces is unknown"),
    ],
)
def test_a_mistake_is_found(old: str, new: str, message: str, tmp_path: Path) -> None:
    source = (ROOT / "main.bicep").read_text(encoding="utf-8")
    assert old in source
    broken = tmp_path / "main.bicep"
    broken.write_text(source.replace(old, new))
    (tmp_path / "modules").symlink_to(ROOT / "modules")
    assert message in problems(read(broken))


def test_a_file_that_is_no_bicep_is_named_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text("param name string\nresource x = {\n")
    with pytest.raises(ValueError, match=r"broken\.bicep:2: cannot be parsed"):
        read(broken)
