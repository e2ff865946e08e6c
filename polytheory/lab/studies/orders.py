"""Which of two lines is lower at its end, at a stated error level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates import compare
from polytheory.lab.studies.question import Question


@dataclass(frozen=True, eq=False)
class Line:
    """Runs of one line: ``y`` [seeds, k] at ``x`` [k], NaN where a point has fewer runs; ``paired`` where a row is a run."""

    label: str
    x: Float[np.ndarray, " k"]
    y: Float[np.ndarray, "seeds k"]
    paired: bool

    @property
    def last(self) -> Float[np.ndarray, " n"]:
        """Values at the last x."""
        return self.y[~np.isnan(self.y[:, -1]), -1]


def orders(question: Question, lines: list[Line]) -> list[str]:
    """A sentence for each pair that a study orders, or says it does not order. Raises `UnknownNameError` for a label."""
    known = {line.label: line for line in lines}
    said = []
    for pairs, claimed in ((question.orders, True), (question.unordered, False)):
        for pair in pairs:
            for label in pair:
                if label not in known:
                    raise UnknownNameError("line", label, known)
            said.append(_order(known[pair[0]], known[pair[1]], claimed))
    return said


def _order(low: Line, high: Line, claimed: bool) -> str:
    head = (
        f"{low.label} below {high.label} at the end"
        if claimed
        else f"{low.label} and {high.label}: no order is claimed"
    )
    try:
        found = compare(low.last[:, None], high.last[:, None], names=(low.label, high.label))
    except SettingError as error:
        return f"{head}: not compared ({error})"
    text = f"difference of interquartile means {found.difference} at error level {1 - found.difference.level:.2g}"
    if not claimed:
        return f"{head} (here: {text})"
    verdict = "yes" if found.difference.high < 0 else "no, it is above" if found.difference.low > 0 else "not shown"
    return f"{head}: {verdict}; {text}"
