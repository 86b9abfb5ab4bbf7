"""Expressions of Azure Pipelines, with values worked out by hand from Microsoft's documentation."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from testing.support.azure_pipelines.expression import Scope, interpolated, with_macros
from testing.support.azure_pipelines.expression_functions import Counters
from testing.support.azure_pipelines.expression_values import Names, Version
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.run_results import CANCELED, FAILED, ISSUES, SKIPPED, SUCCEEDED
from testing.support.azure_pipelines.status_functions import of_graph, of_step

SCOPE = Scope(
    {
        "parameters": {"list": ["a", "B"], "flag": False, "map": {"one": "1", "two": "2"}, "empty": ""},
        "variables": Names({"Build.SourceBranch": "refs/heads/main", "name": "Value"}),
        "things": [{"id": "x"}, {"id": "y"}, {"other": "z"}],
    }
)
VALUES: list[tuple[str, Any]] = [
    # Literals.
    ("true", True), ("False", False), ("null", None), ("-1.5", Decimal("-1.5")), ("'it''s'", "it's"),
    ("1.2.3", Version((1, 2, 3))),
    # Names are found in any case; what is not there is null.
    ("variables['build.sourcebranch']", "refs/heads/main"), ("VARIABLES.Name", "Value"), ("variables.missing", None),
    ("parameters.list[1]", "B"), ("parameters.map['two']", "2"), ("length(things.*.id)", Decimal(2)),
    ("parameters.map.one.more", None),
    # The right side becomes the kind of the left one; text is compared in any case.
    ("eq('ABC', 'abc')", True), ("eq(1, '1.0')", True), ("eq('1', 1)", True), ("eq(true, 'no')", True),
    ("eq('True', true)", True),
    ("eq(null, '')", True), ("eq(0, '')", True), ("eq(1, 'x')", False), ("eq('', null)", True),
    ("eq(1.2.0, '1.2')", False),
    ("eq(1.2.3, '1.2.3')", True), ("eq(true, 0)", False), ("ne('a', 'A')", False), ("ne(1, 'x')", True),
    ("eq(parameters.list, 'a')", False),
    ("gt(10, '9')", True), ("gt('10', 9)", False), ("ge('b', 'B')", True), ("lt(1.2.3, 1.10.0)", True),
    ("le(2, 2)", True),
    # Logic looks no further than it must.
    ("and(true, 'x', 1)", True), ("and(true, '')", False), ("or(false, 0, null, 'x')", True),
    ("or(true, parameters.unknown)", True),
    ("and(false, parameters.unknown)", False), ("not(0)", True), ("not('false')", False), ("xor(true, true)", False),
    ("iif(true, 1, parameters.unknown)", Decimal(1)),
    ("in('b', 'a', 'B')", True), ("in(1, '2', '1')", True), ("notIn('b', 'a', 'B')", False),
    ("notIn('c', 'a', 'B')", True),
    # Text.
    ("contains('Blue', 'LU')", True), ("startsWith(variables['Build.SourceBranch'], 'refs/HEADS')", True),
    ("endsWith('x.yml', 'yaml')", False),
    ("containsValue(parameters.list, 'b')", True), ("containsValue(parameters.map, 2)", True),
    ("containsValue(parameters.map, 'one')", False),
    ("format('{0}-{1}-{0} {{x}}', 'a', true)", "a-True-a {x}"), ("join(',', parameters.list)", "a,B"),
    ("join(',', 'one')", "one"),
    ("coalesce('', null, 'x', 'y')", "x"), ("coalesce('', null)", None), ("length('four')", Decimal(4)),
    ("length(parameters.list)", Decimal(2)),
    ("lower('ABC')", "abc"), ("upper('abc')", "ABC"), ("trim('  a ')", "a"), ("replace('a-b-c', '-', '_')", "a_b_c"),
    ("split('a,b;c', ',;')", ["a", "b", "c"]), ("convertToJson(parameters.map)", '{\n  "one": "1",\n  "two": "2"\n}'),
]  # fmt: skip
WRONG = [
    ("parameters.unknown", "parameters.unknown is not known"),
    ("nothing.here", "unknown name 'nothing'"),
    ("equals(1, 1)", "unknown function 'equals'"),
    ("eq(1)", "eq with 1 values"),
    ("eq(1, 2", "unexpected 'the end'"),
    ("eq(1 2)", "unexpected '2'"),
    ("'open", 'unexpected "\'"'),
    ("gt(1, 'x')", "cannot be compared"),
    ("format('{1}', 'a')", "no value for {1}"),
    ("variables.", "unexpected 'the end'"),
    ("eq(1, 1) and eq(2, 2)", "unexpected 'and'"),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[text for text, _ in VALUES])
def test_an_expression_has_the_documented_value(text: str, value: object) -> None:
    found = SCOPE.evaluate(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_no_expression_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError) as refused:
        SCOPE.evaluate(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ parameters.list }}", ["a", "B"]),
        ("  ${{ parameters.flag }}", False),
        ("is ${{ parameters.flag }} and ${{ length('}}') }}", "is False and 2"),
        ("plain $(macro)", "plain $(macro)"),
        ("${{ variables.missing }}x", "x"),
    ],
)
def test_expressions_in_text(text: str, value: object) -> None:
    """One that is the whole text keeps its kind; a boolean in a longer text is written True or False."""
    assert interpolated(text, SCOPE) == value


def test_a_list_in_a_longer_text_and_an_open_expression_are_refused() -> None:
    with pytest.raises(PipelineError, match="an object has no text"):
        interpolated("x ${{ parameters.list }}", SCOPE)
    with pytest.raises(PipelineError, match="ends the expression"):
        interpolated("x ${{ parameters.flag }", SCOPE)


def test_macros_of_unknown_names_stay() -> None:
    known = {"a": "1", "step.url": "u"}
    text = with_macros("$(a) $(step.url) $(b) $(ls -l) $a ${a} $[a]", known.get)
    assert text == "1 u $(b) $(ls -l) $a ${a} $[a]"


# Of a step: its job so far, whether the run is cancelled, and what the functions of STATUS say.
STEPS = [
    (SUCCEEDED, False, (True, False, False, True, True)),
    (ISSUES, False, (True, False, False, True, True)),
    (FAILED, False, (True, False, True, False, True)),
    (CANCELED, True, (True, True, False, False, False)),
]
# Of a job: results of what it depends on.
JOBS = [
    ((), False, (True, False, False, True, True)),
    ((SUCCEEDED, ISSUES), False, (True, False, False, True, True)),
    ((SUCCEEDED, FAILED), False, (True, False, True, False, True)),
    ((SUCCEEDED, SKIPPED), False, (True, False, False, False, False)),
    ((CANCELED,), True, (True, True, False, False, False)),
]
STATUS = ("always()", "canceled()", "failed()", "succeeded()", "succeededOrFailed()")


@pytest.mark.parametrize(("status", "canceled", "expected"), STEPS)
def test_status_functions_of_a_step(status: str, canceled: bool, expected: tuple[bool, ...]) -> None:
    scope = Scope({}, of_step(status, canceled))
    assert tuple(scope.holds(text) for text in STATUS) == expected


@pytest.mark.parametrize(("results", "canceled", "expected"), JOBS)
def test_status_functions_of_a_job(results: tuple[str, ...], canceled: bool, expected: tuple[bool, ...]) -> None:
    before = {f"job{number}": result for number, result in enumerate(results)}
    scope = Scope({}, of_graph(before, canceled))
    assert tuple(scope.holds(text) for text in STATUS) == expected


def test_status_functions_of_chosen_jobs() -> None:
    scope = Scope({}, of_graph({"a": SUCCEEDED, "b": FAILED}, canceled=False))
    assert scope.holds("succeeded('a')")
    assert not scope.holds("succeeded('a', 'b')")
    assert scope.holds("and(failed('b'), not(failed('a')))")


def test_counters_go_up_from_their_seed_each_by_its_prefix() -> None:
    counters = Counters()
    scope = Scope({}, {"counter": counters.function()})
    texts = ("counter('a', 5)", "counter('a', 5)", "counter('b')", "counter('A', 9)")
    found = [scope.evaluate(text) for text in texts]
    assert found == [5, 6, 0, 7]
