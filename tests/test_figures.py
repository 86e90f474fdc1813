"""Figures: well-formed, to scale, and told in words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.figures import RIGHT, WIDTH, Curve, Mark, Row, curves, dots, stacked

SVG = "{http://www.w3.org/2000/svg}"


def parts(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{tag}"))


def test_dots_lie_to_scale_and_carry_their_numbers() -> None:
    svg = dots("gold reward", [Row("low", 0.2, 0.1, 0.3), Row("middle", 0.4, 0.3, 0.5), Row("high", 0.6, 0.5, 0.7)])
    xs = [float(circle.attrib["cx"]) for circle in parts(svg, "circle")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert xs[0] < xs[1]
    told = parts(svg, "desc")[0].text or ""
    assert "middle 0.400 [0.300, 0.500]" in told


def test_names_are_escaped() -> None:
    svg = dots("<b>", [Row("<script>alert(1)</script>", 0.5, 0.4, 0.6)])
    assert not parts(svg, "script")
    assert "<script>alert(1)</script>" in [text.text for text in parts(svg, "text")]


def test_an_interval_without_end_stays_inside_the_figure() -> None:
    svg = dots("few", [Row("one seed", 0.5, float("-inf"), float("inf")), Row("many", 0.4, 0.3, 0.5)])
    assert "inf" not in "".join(str(line.attrib) for line in parts(svg, "line"))


def test_the_line_of_no_difference_is_in_the_figure() -> None:
    plain, crossed = (dots("gain", [Row("a", 0.5, 0.4, 0.6)], reference=at) for at in (None, 0.0))
    assert len([e for e in parts(crossed, "line") if e.attrib.get("class") == "axis"]) == 1
    assert not [e for e in parts(plain, "line") if e.attrib.get("class") == "axis"]


def test_curves_have_bands_only_where_there_is_an_interval() -> None:
    gold = Curve(
        name="gold", x=[0, 1, 2], y=[0, 1, 0.5], low=[0, 0.9, 0.4], high=[0, 1.1, 0.6],
        line=[(0, 0), (0.6, 0.9), (2, 0.5)], mark=Mark(1.2, 0.8, 0.9, 1.5), note="stop at 1.2",
    )  # fmt: skip
    proxy = Curve(name="proxy", x=[0, 1, 2], y=[0, 1, 2], low=[0, 1, 2], high=[0, 1, 2])
    svg = curves("over-optimization", [gold, proxy], x="square root of KL", y="reward")
    assert len(parts(svg, "polygon")) == 1
    dashes = [line.attrib["stroke-dasharray"] for line in parts(svg, "polyline")]
    assert len(set(dashes)) == 2
    assert "stop at 1.2" in "".join(ElementTree.fromstring(svg).itertext())
    whole, told = parts(svg, "polyline")[0].attrib["points"].split(), parts(svg, "circle")
    assert len(whole) == 3
    assert whole[-1].split(",") == [told[2].attrib["cx"], told[2].attrib["cy"]]  # the fit ends in the last point here
    assert len(parts(svg, "path")) == 1


def test_figures_stand_below_one_another_whole() -> None:
    one, other = (
        dots("one", [Row("a", 0.5, 0.4, 0.6)]),
        dots("other", [Row("b", 0.5, 0.4, 0.6), Row("c", 0.5, 0.4, 0.6)]),
    )
    whole, first, second = parts(stacked("both", [one, other]), "svg")
    assert float(second.attrib["y"]) == float(first.attrib["height"])
    assert whole.attrib["viewBox"].split()[-1] == str(int(first.attrib["height"]) + int(second.attrib["height"]))
    assert len(parts(stacked("both", [one, other]), "circle")) == 3
    with pytest.raises(ValueError, match="no figure"):
        stacked("none", [])


@given(
    st.lists(
        st.tuples(*[st.floats(0, 1)] * 3, st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=60)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_any_rows_are_well_formed_and_keep_their_marks_inside(rows) -> None:
    made = []
    for *bounds, name in rows:
        low, value, high = sorted(bounds)
        made.append(Row(name, value, low, high, words=f"<{value:.1%}>", second=bounds[0] > bounds[1]))
    svg = dots("x & y", made, reference=0.5, percent=True)
    for line in parts(svg, "line"):
        assert 0 <= float(line.attrib["x1"]) <= float(line.attrib["x2"]) <= WIDTH - RIGHT
    assert len(parts(svg, "circle")) + len(parts(svg, "path")) == len(rows)


def test_two_kinds_of_rows_differ_in_shape_and_colour() -> None:
    svg = dots("kinds", [Row("first", 0.5, 0.4, 0.6), Row("behind", 0.3, 0.2, 0.4, second=True)])
    (circle,), (diamond,) = parts(svg, "circle"), parts(svg, "path")
    assert circle.attrib["class"] != diamond.attrib["class"]


@pytest.mark.parametrize("draw", [lambda: dots("none", []), lambda: curves("none", [], x="x", y="y")])
def test_nothing_to_draw_is_an_error(draw) -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw()
