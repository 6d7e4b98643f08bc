"""The timeline as a picture: well-formed, standalone, whatever names and lines there are."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from aiopde.testing import draw_svg

from ._failures import DEADLOCK, STEPS, long, result

SVG = "{http://www.w3.org/2000/svg}"


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  we have just made it


def texts(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def test_shows_every_task_and_step() -> None:
    """
    Each task has its name at both ends; each step its dot, its place and its line.
    """
    picture = parse(draw_svg(DEADLOCK, "a <test> & more"))
    words = texts(picture)
    assert words[0] == "a <test> & more"
    assert all(words.count(name) == 2 for name in ("main", "reader", "remover"))
    assert sum("print(in_use)  # noqa: T201  line 13 <&>" in word for word in words) == 3
    # Three steps that are no cancellation have a dot, of which one has a ring.
    assert len(list(picture.iter(f"{SVG}circle"))) == 5 + 2


def test_marks_what_matters() -> None:
    """
    Accesses that conflict are on a band of their own, and said in words.
    """
    picture = parse(draw_svg(DEADLOCK))
    assert "◂ writes count.in_use, read by reader in step 2" in texts(picture)
    assert len(list(picture.iter(f"{SVG}rect"))) == 3


def test_is_light_or_dark_and_needs_nothing_else() -> None:
    """
    The picture follows the reader's screen, and refers to no other file.
    """
    text = draw_svg(DEADLOCK)
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert text.count("http") == 1  # the namespace


@pytest.mark.parametrize("name", ["a\x00b", "<script>", "a&b", '"', "\N{SNOWMAN}" * 40, "\ud800"])
def test_no_name_breaks_it(name: str) -> None:
    """
    Whatever a task is called, the file is well-formed XML and can be written as UTF-8.
    """
    steps = tuple(replace(step, task=name) for step in STEPS)
    text = draw_svg(replace(DEADLOCK, steps=steps, message=name), name)
    assert parse(text.encode().decode()).tag == f"{SVG}svg"


def test_a_tall_picture_repeats_the_names() -> None:
    """
    Whoever scrolls still sees whose lane it is; the size fits the number of steps.
    """
    picture = parse(draw_svg(long(100, 8)))
    assert texts(picture).count("task7") == 2 + 3
    assert int(picture.get("height", "0")) > 100 * 20


def test_what_is_no_failure() -> None:
    """
    Most pass the result, or the failure of what has not failed.
    """
    for wrong in (None, result()):
        with pytest.raises(TypeError, match=r"as explore\(\.\.\.\)\.failure, not (None|Result)"):
            draw_svg(wrong)  # type: ignore[arg-type]
