"""A figure's SVG as a part of a page: its own look left to the page, its ids no one else's, nothing active in it.

    inlined(path.read_text(), "origins", "Origins (Table 3)")        # <svg class="figure" ...>...</svg>

Colours of the one look (`figures.py`) become the page's variables, so that they follow light and dark; so does a white
ground. Elements and attributes that the figures do not need are left out: a folder may come from a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

from ..errors import SkillNeuronsError
from ..figures import COLOURS, FAINT, INK

GRID = "#e6e6e6"
ONE, NARROW = 480, 340
"""A figure of one panel is that wide at most, in points; it fits a phone, in pixels. A wider one scrolls there."""
ELEMENTS = frozenset((
    "svg", "g", "defs", "path", "use", "clipPath", "rect", "circle", "line", "text", "tspan", "image", "title",
    "pattern",
))  # fmt: skip
ATTRIBUTES = frozenset((
    "class", "clip-path", "cx", "cy", "d", "fill", "fill-opacity", "height", "id", "patternUnits", "r", "style",
    "transform", "viewBox", "width", "x", "y",
))  # fmt: skip
VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--grid)"} | {
    colour.lower(): f"var(--series-{number})" for number, colour in enumerate(COLOURS)
}
_COLOUR = re.compile("|".join(VARIABLES), re.IGNORECASE)
_WHITE = re.compile(r"fill: #ffffff;?$")
_LINK = re.compile(r"url\(#([\w.-]+)\)")
_NUMBER = re.compile(r"-?[\d.]+")


def inlined(svg: str, name: str, label: str) -> Markup:
    """The SVG as an element of HTML; `name` tells its ids from those of other figures, `label` says what it shows.

    Raises `SkillNeuronsError` for what is no SVG.
    """
    try:
        root = ElementTree.fromstring(svg)
        box = [float(side) for side in root.attrib["viewBox"].split()]
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise SkillNeuronsError(
            f"{name}.svg is no SVG of a figure ({error}). Write the folder anew: the command that made it."
        ) from error
    cells = [_box(own) for own in root.iter() if own.get("class") == "cell"]
    found = Element("svg", {"class": "figure", "viewBox": root.attrib["viewBox"], "role": "group", "tabindex": "0"})
    found.set("aria-label", label)
    least = NARROW if box[2] <= ONE else box[2]
    found.set("style", f"max-width: {box[2] * 4 / 3:.0f}px; min-width: {least:.0f}px")
    found.extend(_parts(root, name, cells))
    linked = {target for own in found.iter() for target in _targets(own)}
    for own in found.iter():
        if own.get("id") not in linked:
            own.attrib.pop("id", None)
    return Markup(ElementTree.tostring(found, encoding="unicode"))


def _parts(parent: Element, name: str, cells: list[tuple[float, ...]]) -> Iterator[Element]:
    """What is kept of an element's children."""
    for own in parent:
        tag = _plain(own.tag)
        if tag not in ELEMENTS:
            continue
        made = Element(tag, dict(_attributes(own, name, tag == "text" and _within(own, cells))))
        if parent.get("id", "").startswith("patch_") and _WHITE.fullmatch(own.get("style", "")):
            made.set("style", "fill: none")  # the ground
        if own.get("id") == "marks":
            made.set("class", "marks")
        made.text, made.tail = (None if text is None or not text.strip() else text for text in (own.text, own.tail))
        made.extend(_parts(own, name, cells))
        if len(made) or made.text or tag not in ("g", "defs"):
            yield made


def _attributes(own: Element, name: str, coloured: bool) -> Iterator[tuple[str, str]]:
    """The attributes that are kept, links with the figure's name in them."""
    for key, value in own.attrib.items():
        key = _plain(key)
        if key == "href" and re.fullmatch(r"#[\w.-]+", value):
            yield key, f"#{name}-{value[1:]}"
        elif key == "href" and own.tag.endswith("}image") and value.startswith("data:image/png;base64,"):
            yield key, value
        elif key == "id":
            yield key, f"{name}-{value}"
        elif key in ATTRIBUTES:
            value = _LINK.sub(rf"url(#{name}-\1)", value)
            yield key, value if coloured else _COLOUR.sub(lambda found: VARIABLES[found[0].lower()], value)


def _targets(own: Element) -> Iterator[str]:
    for key, value in own.attrib.items():
        if key == "href":
            yield value[1:]
        yield from _LINK.findall(value)


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _box(own: Element) -> tuple[float, ...]:
    return tuple(float(own.get(side, "0")) for side in ("x", "y", "width", "height"))


def _within(own: Element, cells: list[tuple[float, ...]]) -> bool:
    """Whether a text is written on a cell, whose colour it was chosen for."""
    place = [_NUMBER.fullmatch(own.get(side, "")) for side in ("x", "y")]
    if not all(place):
        return False
    at_x, at_y = (float(own.get(side, "0")) for side in ("x", "y"))
    return any(x <= at_x <= x + width and y <= at_y <= y + height for x, y, width, height in cells)
