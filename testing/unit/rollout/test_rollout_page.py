"""The traffic of a rollout as a picture of its own."""

from __future__ import annotations

from xml.etree import ElementTree

from vision_mlops.rollout.rollout_page import draw_traffic

SVG = "{http://www.w3.org/2000/svg}"


def test_traffic_needs_no_style_sheet() -> None:
    shares = [({"v1": 100}, {"v2": 50}), ({"v1": 90, "v2": 10}, {}), ({"v2": 100}, {})]
    traffic = [
        {"at": f"2026-11-30T12:00:0{second}+00:00", "traffic": share, "mirror": mirror}
        for second, (share, mirror) in enumerate(shares)
    ]
    content = {"candidate": {"deployment": "v2"}, "traffic": traffic, "updated": "2026-11-30T12:00:04+00:00"}
    drawn = ElementTree.fromstring(draw_traffic(content).svg)
    assert not [element for element in drawn.iter() if element.get("class")]
    (candidate,), (copies,) = drawn.findall(f"{SVG}polygon"), drawn.findall(f"{SVG}polyline")
    heights = [float(corner.split(",")[1]) for corner in candidate.get("points", "").split()]
    assert heights[1:-1] == sorted(heights[1:-1], reverse=True), "the share of the candidate only grows"
    assert copies.get("stroke-dasharray")
    assert candidate.get("fill")
