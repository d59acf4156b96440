"""A run's page: whole, safe, the same every time, and alive in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import skillneurons as sn
from skillneurons import SkillNeuronsError
from skillneurons.evidence.choices import choices
from skillneurons.report.of_run import publish
from skillneurons.report.svg import inlined

from .families import tiny
from .makings import TELLING, rows
from .pages import Seen, browse, browser

NASTY = "<script>alert(1)</script> & </title>"
SUBTASKS: list[dict[str, Any]] = [
    {"name": "5-star", "positive": ["positive"], "negative": ["negative", "neutral"]},
    {"name": "</script><img src=x onerror=alert(2)>", "positive": ["neutral"], "negative": ["negative", "positive"]},
]
SEVERAL = {
    "predictivity": "Predictivity of all neurons",
    "layers": "Predictivity by layer",
    "activations": "The top neuron's activations by label, on test",
}
ONCE = {
    "two-neurons": "The two best neurons' activations by label, on test",
    "trials": "How alike two trials rank the neurons, beside chance",
    "choices": "Design choices (Figure 10)",
}


@pytest.fixture(scope="module")
def skill(tmp_path_factory: pytest.TempPathFactory) -> sn.SkillNeurons:
    """A run with an experiment beside it, of a task whose names are no friends of a page."""
    model, tokenizer = tiny("bert")
    splits: dict[str, Any] = {split: rows("three", 30, seed) for seed, split in enumerate(("train", "dev", "test"))}
    task = sn.Task.from_rows(NASTY, **splits, words={label: label for label in TELLING}, subtasks=SUBTASKS)
    out = tmp_path_factory.mktemp("page") / "run"
    skill = sn.find(sn.load_model(model, tokenizer=tokenizer), task, trials=2, positions=3, prompt="random", out=out)
    choices(skill).save(out)
    publish(skill)
    return skill


@pytest.fixture(scope="module")
def page(skill: sn.SkillNeurons) -> Path:
    """Its page."""
    assert skill.folder is not None
    return skill.folder / "report.html"


@pytest.fixture(scope="module")
def seen(page: Path) -> Seen:
    """What is on it."""
    return Seen.of(page.read_text(encoding="utf-8"))


def test_every_picture_stands_on_it_once(seen: Seen, page: Path) -> None:
    shown = [own["aria-label"] for own in seen.named("svg")]
    assert sorted(shown) == sorted([*SEVERAL.values()] * 2 + [*ONCE.values()])
    drawn = {path.stem for path in (page.parent / "figures").glob("*.svg")}
    assert len(drawn) == len(shown) and set(ONCE) <= drawn
    for kind in SEVERAL:
        assert {name.partition(f"{kind}-")[2][:2] for name in drawn if name.startswith(f"{kind}-")} == {"1-", "2-"}


def test_nothing_is_asked_of_anybody(seen: Seen, page: Path) -> None:
    for _, given in seen.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert re.match(r"#|data:image/png;base64,", given.get(name, "#"))
        assert not any(name.startswith("on") for name in given)
    assert not re.search(r"https?:|@import|url\((?!#)", page.read_text(encoding="utf-8"))


def test_the_policy_allows_this_script_and_no_other(seen: Seen, page: Path) -> None:
    [policy] = [own["content"] for own in seen.named("meta") if own.get("http-equiv") == "Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    told = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == f"'sha256-{told}'"
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}


def test_names_are_text_wherever_they_stand(seen: Seen) -> None:
    assert NASTY in seen.text and SUBTASKS[1]["name"] in seen.text
    assert len(seen.named("script")) == 3  # its own, and the two that hold figures
    assert seen.named("img") == []


def test_it_can_be_found_through(seen: Seen) -> None:
    assert seen.headings[0] == 1 and all(after <= before + 1 for before, after in pairwise(seen.headings))
    assert len(set(seen.ids)) == len(seen.ids)
    targets = [own["href"] for own in seen.named("a", "use") if not own["href"].startswith("#neuron=")]
    assert targets and {target[1:] for target in targets} <= set(seen.ids)
    assert [own["lang"] for own in seen.named("html")] == ["en"]
    assert len(seen.named("caption")) == len(seen.named("table")) and all(
        own.get("aria-label") for own in seen.named("svg")
    )
    assert {own["id"] for own in seen.named("input")} == {"layer", "neuron"} and len(seen.named("label")) == 2


def test_it_says_what_the_first_screen_says(skill: sn.SkillNeurons, seen: Seen) -> None:
    words = " ".join(seen.text.split())
    top = skill.results["top_neuron"]
    assert f"{100 * top['test_accuracy']:.1f} %" in words and f"{100 * skill.about['majority']:.1f} %" in words
    assert choices(skill).verdict in words and "skillneurons find" in words
    assert f"skillneurons choices 'runs/{NASTY}'" in words


def test_the_same_run_gives_the_same_bytes(skill: sn.SkillNeurons, page: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(page.parent, again)
    (again / "figures" / "predictivity.svg").write_text("of an earlier page", encoding="utf-8")
    (again / "figures" / ".layers.svg.abcd1234").write_text("half", encoding="utf-8")
    (again / "figures" / "mine.svg").write_text("of somebody else", encoding="utf-8")
    assert publish(sn.SkillNeurons.load(again)).read_bytes() == page.read_bytes()
    names = {path.name for path in (again / "figures").iterdir()}
    assert names == {path.name for path in (page.parent / "figures").iterdir()} | {"mine.svg"}


@browser
def test_a_link_leads_to_a_neuron(skill: sn.SkillNeurons, page: Path) -> None:
    """Oracle: the run's own table."""
    table = skill.table()
    row = table[table["subtask"] == "5-star"].iloc[37]
    shown = Seen.of(browse(page, f"#neuron={row['layer']}.{row['neuron']}")).text
    told = shown.partition(f"Neuron {row['neuron']} of layer {row['layer']}")[2].partition("±: ")[0]
    spots = ", ".join(
        f"{place}{'+' if sign > 0 else '−'}" for place, sign in zip(row["position"], row["sign"], strict=True)
    )
    assert f"5-star {row['rank']} {100 * row['predictivity']:.1f} ± {100 * row['std']:.1f} %" in told
    assert spots in told and told.count(NASTY) == 2  # both subtasks
    assert "not measured" in told


@browser
@pytest.mark.parametrize(("link", "answer"), [
    ("#neuron=0.44", "Layer 0 has the neurons 0 to 43; there is no 44."),
    ("#neuron=9.0", "there is no 9."),
])  # fmt: skip
def test_a_neuron_that_is_none(page: Path, link: str, answer: str) -> None:
    assert answer in Seen.of(browse(page, link)).text


@browser
@pytest.mark.parametrize("width", [500, 390])
def test_it_is_no_wider_than_the_screen(page: Path, width: int) -> None:
    frame = f"""
        const frame = document.createElement("iframe");
        frame.style.width = "{width}px";
        frame.srcdoc = document.documentElement.outerHTML.replace(/<script>[^]*/, "");
        document.body.replaceChildren(frame);
        frame.onload = () => {{
            const root = frame.contentDocument.documentElement;
            document.body.textContent = `${{frame.contentWindow.innerWidth}} and ${{root.scrollWidth}}`;
        }};"""
    inner, scroll = map(int, re.findall(r"(\d+) and (\d+)", browse(page, script=frame))[0])
    assert width - 10 < inner <= width and scroll <= inner


@browser
def test_marks_tell_their_numbers_by_mouse_and_by_key(page: Path) -> None:
    script = """
        const tip = document.getElementById("tip"), told = [];
        const [figure, other] = document.querySelectorAll("svg.figure");
        const [first, second] = figure.querySelectorAll(".marks > *");
        first.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        told.push(!tip.hidden && tip.textContent === first.getAttribute("aria-label"));
        figure.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        told.push(!tip.hidden && tip.textContent === second.getAttribute("aria-label"));
        figure.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        told.push(tip.hidden, document.querySelector("svg title") === null);
        document.body.textContent = told.join(" ");"""
    assert Seen.of(browse(page, script=script)).text.split()[-4:] == ["true"] * 4


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 100 50">{}</svg>'


@pytest.mark.parametrize("harm", [
    "<script>alert(1)</script>", '<g onload="alert(1)"/>', '<foreignObject><p>x</p></foreignObject>',
    '<image xlink:href="https://example.org/a.png"/>', '<use xlink:href="file:///etc/passwd"/>',
    '<a xlink:href="javascript:alert(1)"><text>x</text></a>', '<style>@import "x"</style>',
])  # fmt: skip
def test_nothing_active_comes_in_with_a_figure(harm: str) -> None:
    kept = str(inlined(SVG.format(f'{harm}<path d="M 0 0"/>'), "some", "a figure"))
    root = ElementTree.fromstring(kept)
    assert not re.search(r"alert|http|file:|import|<p>", kept)
    assert [own.get("d") for own in root.iter("path")] == ["M 0 0"]


def test_colours_of_the_look_follow_the_page_and_those_on_cells_stay() -> None:
    drawn = (
        '<g id="patch_1"><path d="M 0 0" style="fill: #ffffff"/></g>'
        '<path d="M 1 1" style="fill: #0072b2; stroke: #FFFFFF; clip-path: url(#clip)"/>'
        '<text x="5" y="5" style="fill: #222222">on it</text><text x="50" y="5" style="fill: #222222">beside</text>'
        '<clipPath id="clip"><rect x="0" y="0" width="1" height="1"/></clipPath><g id="unused"><path d="M 2 2"/></g>'
        '<g id="marks"><rect class="cell" x="0" y="0" width="10" height="10"><title>0.5</title></rect></g>'
    )
    root = ElementTree.fromstring(str(inlined(SVG.format(drawn), "some", "a figure")))
    styles = [own.get("style") for own in root.iter("path")]
    assert styles == ["fill: none", "fill: var(--series-0); stroke: #FFFFFF; clip-path: url(#some-clip)", None]
    assert [own.get("style") for own in root.iter("text")] == ["fill: #222222", "fill: var(--ink)"]
    assert [own.get("id") for own in root.iter() if own.get("id")] == ["some-clip"]


@pytest.mark.parametrize("text", ["", "no svg", "<svg>", "<svg viewBox='0 0 a b'/>"])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(SkillNeuronsError, match=r"some\.svg is no SVG of a figure .* Write the folder anew"):
        inlined(text, "some", "a figure")
