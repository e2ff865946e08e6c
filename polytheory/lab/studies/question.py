"""What to ask of the results of a study: which measure against what, in which lines, and what a theorem says about it."""

from __future__ import annotations

import math
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
        y: measured column, or several: each is a line.
        x: column. One that grows along a run (``step``, ``episodes``, ``transitions``, ``backups``) takes the rows of
        each run, any
            other (a knob, ``budget``) its last row. ``eps``, given ``eps``, asks for N(eps) instead, y being the suboptimality.
        name: of the figure's file; default "y-x".
        lines: columns that tell the lines apart; default all that vary.
        labels: other names of lines.
        where: column = value, for rows that count.
        theorem: stated exponent (the base for law "exponential", such as gamma), for all lines or by label; each is drawn
            beside the first line that it speaks of.
        fit: whether to measure exponents; default: of the lines that the theorem speaks of.
        law, towards, level: as in `estimates.exponents.fit`.
        start: smallest x of the fit.
        points: at most so many points in a fit, spread evenly over the logarithm of x.
        eps: values for N(eps), and ``passage`` "first" or "stays", ``quantile`` of the runs.
        log: axes that are logarithmic: "xy", "x", "y" or "".
        statements: lines that are computed bounds and no data: drawn dashed.
        orders: pairs of labels; that the first is smaller at its last x is checked by `estimates.compare`.
        unordered: pairs of which no order is claimed; the comparison is shown as such.
        title, caption, x_label, y_label: texts.
    """

    y: str | Sequence[str]
    x: str = "step"
    name: str = ""
    lines: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    theorem: float | int | Mapping[str, float | int] | None = None
    fit: bool | None = None
    law: str = "power"
    towards: str = "large"
    level: float = 0.95
    start: float = 0.0
    points: int = 12
    eps: Sequence[float | int] = ()
    passage: str = "first"
    quantile: float = 0.5
    log: str = "xy"
    statements: Sequence[str] = ()
    orders: Sequence[Sequence[str]] = ()
    unordered: Sequence[Sequence[str]] = ()
    title: str = ""
    caption: str = ""
    x_label: str = ""
    y_label: str = ""

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("law", self.law, LAWS),
            ("direction", self.towards, TOWARDS),
            ("kind of N(eps)", self.passage, KINDS),
        ):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if (self.x == "eps") != bool(self.eps):
            raise SettingError(f"x = {self.x!r} with eps = {list(self.eps)}; N(eps) needs x = 'eps' and a list of eps")
        if not self.measures or (self.eps and len(self.measures) > 1):
            raise SettingError(f"y = {self.y!r}; name one measured column (several only without eps)")
        if set(self.log) - set("xy"):
            raise SettingError(f"log = {self.log!r}; 'xy', 'x', 'y' or '' say which axes are logarithmic")

    @property
    def measures(self) -> tuple[str, ...]:
        """The measured columns."""
        return (self.y,) if isinstance(self.y, str) else tuple(self.y)

    @property
    def stem(self) -> str:
        """Name of the figure's file, without its ending."""
        return self.name or f"{'-'.join(self.measures)}-{self.x}".replace("/", "-").replace(".", "-")

    def fits(self, label: str) -> bool:
        """Whether the exponent of a line is measured."""
        return self.stated(label) is not None if self.fit is None else self.fit

    def stated(self, label: str) -> float | None:
        """What the theorem says about a line, as a slope."""
        found = self.theorem.get(label) if isinstance(self.theorem, Mapping) else self.theorem
        if found is None:
            return None
        if self.law == "exponential" and not found > 0:
            raise SettingError(f"theorem = {found}; the base of an exponential law is positive, such as gamma")
        return float(found) if self.law == "power" else math.log(found)


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
    return [Question(**{name: _number(name, value) for name, value in table.items()}) for table in tables]


def _number(name: str, value: Any) -> Any:
    """A whole number as a float where the field is one; text for a number is refused."""
    default = next(f.default for f in fields(Question) if f.name == name)
    if not isinstance(default, float):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"{name} = {value!r} in a figure; a number is needed, such as {default}")
    return float(value)
