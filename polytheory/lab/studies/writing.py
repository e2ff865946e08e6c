"""Answers as files: a figure each, and one page with the numbers behind all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytheory.lab.estimates.exponents import Exponent
from polytheory.lab.figures import draw, page
from polytheory.lab.records import write_atomically
from polytheory.lab.studies.answer import Answer


def write(answers: Mapping[str, Answer], folder: Path, html: Path, *, intro: str, form: str = "svg") -> list[Path]:
    """Write ``KEY.FORM`` of every answer into a folder, and the page ``html``; returns the paths, the page last.

    Raises `SettingError` for a form that is not svg, pdf or png, or a folder that cannot be written.
    """
    paths = [draw(found.shown.curve, folder / f"{key}.{form}") for key, found in answers.items()]
    write_atomically(html, page(html.stem, intro, [found.shown for found in answers.values()]))
    return [*paths, html]


def record(label: str, found: Exponent) -> dict[str, Any]:
    """An exponent as plain data."""
    return {
        "line": label, "law": found.law, "slope": found.slope, "low": found.low, "high": found.high, "level": found.level,
        "stated": found.stated, "stated_p": found.stated_p, "agrees": found.agrees, "start": found.start, "stop": found.stop,
        "points": found.points, "seeds": found.seeds, "begins": found.begins, "curvature_p": found.curvature_p,
        "text": str(found),
    }  # fmt: skip
