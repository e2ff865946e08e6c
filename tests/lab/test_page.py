"""The page: well formed, self-contained, safe, and it says what was found."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from verifications import EVIL, Reader, claim_result, curve, demo_record, verification

from polytheory.lab.records import Level, Lockstep, Series
from polytheory.lab.report import page
from polytheory.lab.report.style import CSS
from polytheory.proofs_check.runner import MutantResult


def evil():
    """Every text that comes from outside is hostile."""
    result = claim_result(
        EVIL, source=EVIL, statement=EVIL, level=EVIL, error=None, mutants=[MutantResult(EVIL, False, EVIL)]
    )
    crashed = claim_result("b" + EVIL, holds=False, margin=None, error=EVIL)
    drawn = curve(title=EVIL, x_label=EVIL, y_label=EVIL, series=[Series(EVIL, [1.0, 2.0], [1.0, 2.0])],
                  levels=[Level(EVIL, 1.0)], caption=EVIL)  # fmt: skip
    demo = demo_record(
        environment=EVIL, model=EVIL, algorithm=EVIL, access=EVIL, settings={EVIL: EVIL}, status=EVIL, curve=drawn,
        lockstep=Lockstep(1.0, 1e-11, 5, 3, [EVIL], EVIL, False),
    )  # fmt: skip
    demo = replace(demo, grid=replace(demo.grid, arrows=[EVIL] * 4))
    found = verification(
        title=EVIL, paper=EVIL, url="javascript:alert(1)", claims=[result, crashed], demos=[demo], errors=[EVIL]
    )
    return replace(found, software={EVIL: EVIL}, made=EVIL)


@pytest.mark.parametrize("found", [verification(), evil(), verification(claims=[], demos=[])])
def test_it_is_well_formed(found):
    read = Reader(page(found))  # raises on an element that is not closed by its own tag
    assert read.elements[0][0] == "html"
    ids = [a["id"] for _, a, _ in read.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    anchors = [a["href"][1:] for a, _ in read.all("a") if a["href"].startswith("#")]
    assert set(anchors) <= set(ids)


@pytest.mark.parametrize("found", [verification(), evil()])
def test_it_loads_nothing(found):
    text = page(found)
    read = Reader(text)
    names = {name for name, _, _ in read.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"}
    for name, attributes, _ in read.elements:
        assert not {"src", "srcset", "xlink:href", "action", "background"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)
        if "href" in attributes:
            assert name == "a"
            assert attributes["href"].startswith(("#", "https://", "http://"))
        if "style" in attributes:
            assert "url(" not in attributes["style"]
    assert "url(" not in CSS
    assert "@import" not in CSS


def test_hostile_text_is_text():
    text = page(evil())
    assert "<script" not in text.lower()
    read = Reader(text)
    assert read.text.count(EVIL) >= 20  # and it is all there to be read


def test_it_says_what_was_found():
    found = verification()
    read = Reader(page(found))
    text = read.text
    record = found.methods[0]
    for expected in (
        record.title,
        record.paper,
        "holds",
        "drop_gamma",
        "ValueIteration",
        "tol = 1e-06",
        "1 of 1",
        "a sentence",
    ):
        assert expected in text
    assert (record.url, record.url) in [(a["href"], t) for a, t in read.all("a")]
    assert "FAILED" not in text


def test_every_level_is_explained():
    text = Reader(page(verification())).text
    assert all(level in text for level in ("symbolic", "certificate", "property", "statistical"))


@pytest.mark.parametrize(
    "change",
    [
        {"claims": [claim_result(holds=False)]},
        {"claims": [claim_result(mutants=[MutantResult("drop_gamma", False, "survived 3 instances")])]},
        {"claims": [claim_result(holds=False, margin=None, error="RuntimeError: oh")]},
        {"demos": [demo_record(lockstep=Lockstep(1.0, 1e-11, 5, 3, ["state.v"], "state.v", False))]},
        {"claims": []},
        {"errors": ["taxi crashed"]},
    ],
)
def test_what_failed_cannot_be_overlooked(change):
    read = Reader(page(verification(**change)))
    assert "FAILED" in read.text
    assert "Everything that was checked holds" not in read.text
    assert any("bad" in (a.get("class") or "") for _, a, _ in read.elements)


def test_figures_have_names_and_words():
    read = Reader(page(verification()))
    shown = [a for a, _ in read.all("svg") if a.get("aria-hidden") != "true"]
    assert len(shown) == 2
    assert all(a["role"] == "img" and a["aria-label"] for a in shown)
    assert read.all("html")[0][0]["lang"] == "en"
    assert len(read.all("h1")) == 1


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]{3,6})", block))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_text_and_lines_stand_out_from_the_background(part):
    """Contrast on the page and on its cards: 4.5 for text, 3 for lines (WCAG 2, level AA), light, dark and on paper."""
    theme = colours(CSS.split(":root")[part + 1].split("}")[0])
    for ground in ("bg", "card"):
        for name in ("ink", "soft", "link", "good", "bad"):
            assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
        for name in ("c0", "c1", "c2", "c3", "level"):
            assert contrast(theme[name], theme[ground]) >= 3.0, (name, ground)


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    return sum(
        w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
        for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )
