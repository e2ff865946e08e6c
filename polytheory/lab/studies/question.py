"""What to ask of the results of a study: which measure against what, in which lines, and what a theorem says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates.exponents import LAWS, TOWARDS
from polytheory.lab.estimates.passage import KINDS

RUNNING = ("step", "episodes", "transitions", "backups")  # x that grow along one run


@dataclass(frozen=True)
class Question:
    """One figure of a study; in TOML a table ``[[figure]]`` with these keys.

    Fields:
        y: measured column.
        x: column. One that grows along a run (``step``, ``episodes``, ``transitions``, ``backups``) takes the rows of each run, any
            other (a knob, ``budget``) its last row. ``eps``, given ``eps``, asks for N(eps) instead, y being the suboptimality.
        name: of the figure's file; default "y-x".
        lines: columns that tell the lines apart; default all that vary.
        labels: other names of lines.
        where: column = value, for rows that count.
        theorem: stated exponent, for all lines or by label; its line is drawn beside the first it speaks of.
        fit: whether to measure exponents; default where a theorem is given.
        law, towards, level: as in `estimates.exponents.fit`.
        start: smallest x of the fit.
        points: at most so many points in a fit, spread evenly over the logarithm of x.
        eps: values for N(eps), and ``passage`` "first" or "stays", ``quantile`` of the runs.
        log: axes that are logarithmic: "xy", "x", "y" or "".
        title, caption, x_label, y_label: texts.
    """

    y: str
    x: str = "step"
    name: str = ""
    lines: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    theorem: float | Mapping[str, float] | None = None
    fit: bool | None = None
    law: str = "power"
    towards: str = "large"
    level: float = 0.95
    start: float = 0.0
    points: int = 12
    eps: Sequence[float] = ()
    passage: str = "first"
    quantile: float = 0.5
    log: str = "xy"
    title: str = ""
    caption: str = ""
    x_label: str = ""
    y_label: str = ""

    def __post_init__(self) -> None:
        for kind, value, known in (("law", self.law, LAWS), ("direction", self.towards, TOWARDS), ("kind of N(eps)", self.passage, KINDS)):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if (self.x == "eps") != bool(self.eps):
            raise SettingError(f"x = {self.x!r} with eps = {list(self.eps)}; N(eps) needs x = 'eps' and a list of eps")
        if set(self.log) - set("xy"):
            raise SettingError(f"log = {self.log!r}; 'xy', 'x', 'y' or '' say which axes are logarithmic")

    @property
    def stem(self) -> str:
        """Name of the figure's file, without its ending."""
        return self.name or f"{self.y}-{self.x}".replace("/", "-").replace(".", "-")

    @property
    def fits(self) -> bool:
        """Whether exponents are measured."""
        return self.theorem is not None if self.fit is None else self.fit

    def stated(self, label: str) -> float | None:
        """What the theorem says about a line."""
        found = self.theorem.get(label) if isinstance(self.theorem, Mapping) else self.theorem
        return None if found is None else float(found)


def questions(tables: Any) -> list[Question]:
    """The questions of a list of tables, as a study's ``figure``. Raises `SettingError`, `UnknownNameError`."""
    if not isinstance(tables, list):
        raise SettingError("figure is no list; write [[figure]] with y = ... below it")
    known = [f.name for f in fields(Question)]
    for table in tables:
        for name in table:
            if name not in known:
                raise UnknownNameError("key of a figure", name, known)
        if "y" not in table:
            raise SettingError("a figure without y; name the measured column")
    return [Question(**table) for table in tables]
