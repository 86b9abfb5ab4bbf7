"""The parts of the serving benchmark that need no server: what wrk says, who runs what, tables and ratios."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.serving import environments, load, pictures, report
from benchmarks.serving.__main__ import END_MARK, MARK, SOAK_MARK, arguments, chosen, write_markdown
from benchmarks.serving.bound.loop import reduction
from benchmarks.serving.load import Load, parse
from benchmarks.serving.measure import LARGE, SMALL, Plan, Results, Soak, check_answers, difference
from benchmarks.serving.systems import BASE, BOUND, PREDICTOR, Running, System, systems, top
from PIL import Image

LINE = "result requests=1500 duration_us=10000000 p50_us=38000 p99_us=57000 connect=1 read=2 write=0 timeout=4 status=8"


def loads(*speeds: float) -> list[Load]:
    return [Load(int(speed), speed, 10.0, 17.0) for speed in speeds]


def named(*names: str) -> list[System]:
    known = {system.name: system for system in systems(int8=True, one_worker=True, unpinned=True)}
    return [known[name] for name in names]


def test_the_line_of_results_is_read_exactly() -> None:
    found = parse(f"Running 10s test\n  1 threads and 8 connections\n{LINE}\n")
    assert found == Load(1500, 150.0, 38.0, 57.0, errors=7, refused=8)
    assert found.spread == 1.5


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("Running 10s test\nunable to connect", "no line of results"),
        (LINE.replace(" status=8", ""), "lacks status"),
        (LINE.replace("p50_us", "p50"), "lacks p50_us"),
    ],
    ids=["none", "no status", "no median"],
)
def test_output_that_is_not_whole_is_refused(output: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(output)


def test_a_missing_wrk_is_said_with_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        load.check_wrk()


@pytest.mark.parametrize("body", [b"{}", b'{"predictions": []}', b"[]", b"no", b'{"predictions": [{"label": "a"}]}'])
def test_something_else_than_an_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        top(body)


def test_the_first_prediction_counts() -> None:
    answer = {"predictions": [{"label": "b", "probability": 0.75}, {"label": "a", "probability": 0.25}]}
    assert top(json.dumps(answer).encode()) == ("b", 0.75)


@contextlib.contextmanager
def answering(status: int, body: bytes, tmp_path: Path) -> Iterator[Running]:
    """A server that answers everything with this, as if it were one of the systems."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "log").write_text("the end of the log")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server, subprocess.Popen(["true"]) as process:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Running(named("fastapi")[0], process, server.server_address[1], tmp_path / "log")
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "label", "probability", "problem"),
    [
        (200, "a", 0.915, ""),
        (200, "b", 0.9, "image.jpg is b with 0.9000, but a with 0.9000"),
        (200, "a", 0.875, "image.jpg is a with 0.8750"),
        (200, "a", math.nan, "image.jpg is a with nan"),
        (503, "a", 0.9, "image.jpg was answered with 503"),
    ],
    ids=["right", "label", "probability", "nan", "status"],
)
def test_a_server_that_answers_something_else_ends_the_run(
    status: int, label: str, probability: float, problem: str, tmp_path: Path
) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(b"an image")
    body = json.dumps({"predictions": [{"label": label, "probability": probability}]}).encode()
    with answering(status, body, tmp_path) as running:
        outcome = pytest.raises(SystemExit, match=problem) if problem else contextlib.nullcontext()
        with outcome as caught:
            check_answers(running, [image], {image: ("a", 0.9)})
    assert not problem or "the end of the log" in str(caught)


def test_a_picture_that_is_not_compared_has_to_be_answered_all_the_same(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(b"an image")
    body = json.dumps({"predictions": [{"label": "b", "probability": 0.5}]}).encode()
    with answering(200, body, tmp_path) as running:
        check_answers(running, [image], {})
    with answering(200, b"{}", tmp_path) as running, pytest.raises(SystemExit, match=r"image\.jpg: not an answer"):
        check_answers(running, [image], {})


def test_large_pictures_are_compared_where_they_are_decoded_as_the_bundle_asks() -> None:
    small, large = Path("small.jpg"), Path("large.jpg")
    plan = Plan({SMALL: [small], LARGE: [large]}, lambda _: Path(), {}, 1, {}, 1, 224)
    expected = {small: ("a", 0.9), large: ("b", 0.8)}
    for system in named("ours", PREDICTOR, BASE, "fastapi", "litserve, unpinned"):
        assert plan.compared(system, expected) == expected, system.name
    for system in named(BOUND, f"{BOUND}, int8", "granian", "fastapi, tuned", "granian, 1 worker"):
        assert plan.compared(system, expected) == {small: ("a", 0.9)}, system.name


def test_a_difference_names_both_answers() -> None:
    assert difference(Path("a.jpg"), ("a", 0.915), ("a", 0.9)) == ""
    assert "is a with 0.9300, but a with 0.9000" in difference(Path("a.jpg"), ("a", 0.93), ("a", 0.9))
    assert difference(Path("a.jpg"), ("a", math.nan), ("a", 0.9))


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was half as fast in the second round: medians of each would give 1.5.
    results = {"ours": Results({SMALL: loads(300, 150, 300)}), BASE: Results({SMALL: loads(100, 50, 200)})}
    assert report.ratio(results, SMALL, "ours", BASE) == 3.0
    assert report.ratio(results, LARGE, "ours", BASE) is None
    assert report.ratio(results, SMALL, "ours", "fastapi") is None


def test_a_load_without_answers_is_shown_as_such() -> None:
    rows = named("ours", BASE)
    results = {"ours": Results({SMALL: loads(100)}), BASE: Results({SMALL: [Load(0, 0.0, 0.0, 0.0, errors=8)]})}
    assert report.ratio(results, SMALL, "ours", BASE) is None
    assert report.speed_table(results, rows, SMALL).splitlines()[3].endswith("| 0.0 | 0.0 | inf | 8 | 0 |")
    assert report.finite({"spread": [results[BASE].loads[SMALL][0].spread]}) == {"spread": [None]}


def test_the_best_other_is_another_framework() -> None:
    rows = named("ours", BOUND, PREDICTOR, BASE, "fastapi", "granian", "litserve, unpinned", "fastapi, tuned")
    speeds = [900.0, 950.0, 960.0, 990.0, 300.0, 305.0, 306.0, 310.0]
    results = {system.name: Results({SMALL: loads(speed)}) for system, speed in zip(rows, speeds, strict=True)}
    assert report.best_other(results, rows, SMALL) == "fastapi, tuned"
    assert report.best_other(results, rows, LARGE) is None


def test_each_of_ours_is_held_against_the_loop_of_its_precision() -> None:
    rows = named("ours", "ours, f32", "ours, int8", f"{PREDICTOR}, f32", "fastapi", "fastapi, tuned")
    bounds = [BOUND, f"{BOUND}, f32", f"{BOUND}, int8", f"{BOUND}, f32", BOUND, BOUND]
    assert [report.bound(system) for system in rows] == bounds


def test_the_table_has_every_ratio() -> None:
    rows = named("ours", BOUND, BASE, "fastapi")
    speeds = [300.0, 400.0, 50.0, 200.0]
    results = {system.name: Results({SMALL: loads(speed)}) for system, speed in zip(rows, speeds, strict=True)}
    lines = report.speed_table(results, rows, SMALL).splitlines()
    assert lines[2] == "| ours | 300.0 | 6.00 | 1.50 | 0.75 | 10.0 | 17.0 | 1.70 | 0 | 0 |"
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)


def test_what_was_asked_is_judged() -> None:
    rows = named("ours", BOUND, BASE, "fastapi")
    speeds = [300.0, 400.0, 50.0, 200.0]
    results = {system.name: Results({SMALL: loads(speed)}) for system, speed in zip(rows, speeds, strict=True)}
    results["ours"].ready_seconds = [1.0, 4.0, 2.0]
    results["ours"].megabytes = {SMALL: [360.0]}
    asks = {ask.what: ask for ask in report.asked(results, rows, {}, 224)}
    met = {what: ask.met for what, ask in asks.items()}
    small, large = "JPEGs of 250 x 250 to 224", "JPEGs of 4032 x 3024 to 224"
    assert met[f"{small}: times flask_torch"] is False  # 6.0 of 6.3
    assert met[f"{small}: times fastapi"] is True  # 1.5 of 1.4
    assert met[f"{small}: of in_process"] is False
    assert met[f"{small}: p99 / p50"] is True
    assert met["start to first answer, s"] is True
    assert met[f"memory (PSS) after {small}, MB"] is False
    assert met[f"{large}: times flask_torch"] is None
    assert asks[f"{small}: times flask_torch"].row() == [f"{small}: times flask_torch", "≥ 6.3", "6.00", "no"]
    assert asks[f"{large}: times flask_torch"].row()[2:] == ["not measured", ""]


def test_growth_is_from_the_first_sample_to_the_last() -> None:
    done = Soak("ours", 60.0, 12_000, 0, 1, [200.0, 230.0, 208.0])
    assert report.soak_table(done).splitlines()[2] == "| ours | 60 | 12,000 | 0 | 1 | 200 | 208 | 4.0 | < 5 |"


def test_a_document_keeps_what_stands_before_the_mark(tmp_path: Path) -> None:
    file = tmp_path / "serving.md"
    file.write_text(f"# Title\n\n{MARK}\n\nold\n")
    write_markdown(file, "new\n")
    assert file.read_text() == f"# Title\n\n{MARK}\n\nnew\n"
    write_markdown(tmp_path / "other.md", "new\n")
    assert (tmp_path / "other.md").read_text() == "new\n"


def test_tables_replace_those_behind_their_own_mark_alone(tmp_path: Path) -> None:
    file = tmp_path / "serving.md"
    between = f"\n{END_MARK}\n\n## Long load\n\n{SOAK_MARK}\n\n"
    file.write_text(f"head\n{MARK}\n\nold\n{between}old\n\n{END_MARK}\n")
    write_markdown(file, "soak\n", SOAK_MARK)
    assert file.read_text() == f"head\n{MARK}\n\nold\n{between}soak\n\n{END_MARK}\n"
    write_markdown(file, "new\n")
    assert file.read_text() == f"head\n{MARK}\n\nnew\n{between}soak\n\n{END_MARK}\n"


def test_rows_are_chosen_by_their_name_or_their_environment() -> None:
    assert [system.name for system in chosen(arguments(["--only", "fastapi", "in_process, f32"]))] == [
        "in_process, f32",
        "fastapi",
    ]
    assert {system.environment for system in chosen(arguments(["--only", "ours"]))} == {"ours"}
    with pytest.raises(SystemExit, match="no such system; there are azmlinfsrv"):
        chosen(arguments(["--only", "django"]))


def test_every_environment_is_pinned() -> None:
    for name in {system.environment for system in systems()}:
        pins = environments.pins(name)
        assert pins
        assert all("==" in pin for pin in pins), name


def test_every_system_has_the_files_that_it_is_started_with() -> None:
    for system in systems(int8=True, one_worker=True, unpinned=True):
        folder = environments.HERE / system.environment
        assert environments.requirements(system.environment).is_file(), system.name
        if system.is_loop:
            assert (folder / "loop.py").is_file(), system.name
        for word in system.command:
            module = word.partition(":")[0] if word.endswith((":app", ":Classifier")) else ""
            script = f"{module}.py" if module else word if word.endswith(".py") else ""
            assert not script or (folder / script).is_file(), (system.name, script)


def test_the_bound_and_what_runs_it_need_nothing_of_ours() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; import two_processes, bound.loop; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code, str(environments.HERE)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "bound.loop" in loaded
    assert not [name for name in loaded if name.partition(".")[0] in {"vision_mlops", "benchmarks"}]
    for name in ("bound/loop.py", "two_processes.py"):
        text = (environments.HERE / name).read_text(encoding="utf-8")
        assert "import vision_mlops" not in text
        assert "from vision_mlops" not in text


@pytest.mark.parametrize(
    ("width", "height", "edge", "scale"),
    [
        (250, 250, 224, 1),
        (447, 900, 224, 2),  # 223.5 are decoded as 224
        (446, 900, 224, 1),
        (4032, 3024, 224, 8),
        (3024, 4032, 250, 8),
        (4032, 3024, 384, 4),
        (4032, 3024, 800, 2),
        (4032, 3024, 1600, 1),
        (9000, 8000, 224, 8),
        (100, 100, 224, 1),
    ],
)
def test_the_bound_decodes_at_the_smallest_scale_that_is_large_enough(
    width: int, height: int, edge: int, scale: int
) -> None:
    assert reduction(width, height, edge) == scale


def test_without_a_bundle_small_images_have_to_be_scaled() -> None:
    from benchmarks.serving import untrained

    assert untrained.SIZE == 224
    for file in pictures.small():
        with Image.open(file) as image:
            assert image.size == (250, 250), file.name


def test_two_processes_say_what_they_did_and_answered(tmp_path: Path) -> None:
    (tmp_path / "length.py").write_text(
        "def load(folder, precision):\n    return lambda image: [(precision, len(image))]\n"
    )
    for name in ("abc", "de"):
        (tmp_path / name).write_text(name)
    files = [str(tmp_path / name) for name in ("abc", "de")]
    command = [sys.executable, "two_processes.py", "length", str(tmp_path), "f32", "0.01", "0.05", *files]
    done = subprocess.run(
        command, cwd=environments.HERE, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["answers"] == [["f32", 3], ["f32", 2]]
    assert result["load"]["requests"] > 0
    assert result["load"]["requests"] / result["load"]["requests_per_s"] >= 0.05  # neither ends before its time


def test_ours_has_the_pins_that_are_shipped_and_no_torch() -> None:
    pins = environments.pins("ours")
    assert "torch==2.13.0" in environments.pins("flask_torch")
    assert not [pin for pin in pins if pin.startswith(("torch", "timm"))]
    openvino = next(pin for pin in pins if pin.startswith("openvino=="))
    for name in ("azmlinfsrv", "bentoml", "bound", "fastapi", "fastapi_tuned", "granian", "litserve"):
        assert openvino in environments.pins(name)
    simplejpeg = next(pin for pin in pins if pin.startswith("simplejpeg=="))
    opencv = next(pin for pin in environments.pins("bound") if pin.startswith("opencv"))
    for name in ("bound", "fastapi_tuned", "granian"):
        assert {simplejpeg, opencv} <= set(environments.pins(name))


def test_sizes_leave_out_installers_and_nothing_else(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "site-packages"
    for name in ("pip", "setuptools", "pip-24.0.dist-info", "numpy", "pipes"):
        (packages / name).mkdir(parents=True)
        (packages / name / "content").write_bytes(b"x" * 100_000)
    (packages / "numpy" / "pip").mkdir()
    (packages / "numpy" / "pip" / "content").write_bytes(b"x" * 100_000)
    every = environments.disk_megabytes(tmp_path)
    without = environments.disk_megabytes(tmp_path, without_installers=True)
    assert every - without == pytest.approx(0.3, abs=0.05)
    assert without == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--bundle", "nowhere"]], ids=["rounds", "bundle"])
def test_options_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(words)
    assert caught.value.code == 2
    assert ("at least 1" if words[1] == "0" else "not a model bundle") in capsys.readouterr().err
