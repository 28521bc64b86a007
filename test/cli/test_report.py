"""The page about recorded episodes is one valid file that shows what the bags hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from qt_ros.cli.report import EpisodeView, plot, view_bag, write_page


class Balanced(HTMLParser):
    """Fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def view() -> EpisodeView:
    return EpisodeView(
        {"instruction": "pick <b>up</b>", "outcome": "success", "seed": 7},
        names=("terminate", "gripper"),
        times=[0.0, 0.2, 0.4],
        q=[[0.1, 0.2], [0.3, 0.4], [0.9, 0.8]],
        values=[0.1, 0.3, 0.9],
        frames=[(0.0, b"\xff\xd8 picture")],
    )


def test_the_page_stands_alone_and_escapes_what_it_shows(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    write_page(page, "demo", {"succeeded": "1 of 1"}, [view(), EpisodeView({}, problem="no bag")])
    text = page.read_text()
    checker = Balanced()
    checker.feed(text)
    assert checker.open == []
    assert "pick &lt;b&gt;up&lt;/b&gt;" in text
    assert "no bag" in text
    assert "data:image/jpeg;base64," in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    v = view()
    svg = ElementTree.fromstring(plot(v.times, v.values, v.q, v.names))
    lines = svg.findall("polyline")
    assert len(lines) == 3
    value = [tuple(map(float, p.split(","))) for p in lines[-1].attrib["points"].split()]
    assert value[0][0] < value[1][0] < value[2][0]
    assert value[0][1] > value[1][1] > value[2][1]


def test_an_episode_of_one_step_can_be_drawn() -> None:
    ElementTree.fromstring(plot([0.0], [0.5], [[0.5]], ["terminate"]))


def test_a_bag_that_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    found = view_bag(tmp_path / "absent", {"seed": 1}, "head_camera/image_raw")
    assert "BagError" in found.problem
