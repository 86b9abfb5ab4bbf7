"""The picture of a job's steps."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from vision_mlops.jobs.definitions.plan.plan_picture import draw_plan
from vision_mlops.jobs.pipelines import PIPELINES

SVG = "{http://www.w3.org/2000/svg}"


def test_steps_stand_below_those_whose_outputs_they_read() -> None:
    drawn = ElementTree.fromstring(draw_plan(PIPELINES / "train.yml").svg)
    tops = {text.text: int(text.get("y", "")) for text in drawn.iter(f"{SVG}text") if text.get("font-size") == "14"}
    assert list(tops) == ["prepare", "train", "evaluate", "gate_and_register"]
    assert list(tops.values()) == sorted(set(tops.values()))
    lines = drawn.findall(f"{SVG}path")
    assert len(lines) == 6, "data to three steps, the bundle to two, the report to one"
    width = int(drawn.get("width", ""))
    numbers = [float(number) for line in lines for number in re.findall(r"\d+", line.get("d", ""))]
    assert max(numbers[::2]) < width


def test_a_job_of_one_step() -> None:
    drawn = ElementTree.fromstring(draw_plan(PIPELINES / "components" / "train.yml").svg)
    assert len(drawn.findall(f"{SVG}rect")) == 1
    assert not drawn.findall(f"{SVG}path")
