"""Quantities as small tables: arrays over the same axes become the columns of one table with a row for each index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory.lab.tracing.quantities import Quantity

INLINE = 8  # entries of a vector that fit into a line
MOST_ROWS = 16  # of a table; above that only rows with news, and no more than this
WIDTH = 118  # of text; wider tables are told in pieces
_LETTER = {"S": "s", "A": "a", "H": "h", "n": "i", "S'": "s'"}


@dataclass(eq=False)
class Table:
    """Columns by name (the first ``index`` of them are indices), rows as text; ``note`` tells what is left out."""

    columns: list[str]
    rows: list[list[str]]
    index: int = 0
    note: str = ""

    def lines(self) -> list[str]:
        """Aligned text; a table that is too wide is told in pieces, each with the indices."""
        if not self.rows:
            return [self.note] if self.note else []
        widths = [max(len(x) for x in column) for column in zip(self.columns, *self.rows, strict=True)]
        left = sum(widths[: self.index]) + 2 * self.index
        pieces: list[list[int]] = [[]]
        for j in range(self.index, len(widths)):
            if pieces[-1] and left + sum(widths[k] + 2 for k in (*pieces[-1], j)) > WIDTH:
                pieces.append([])
            pieces[-1].append(j)
        out = []
        for piece in pieces:
            for row in (self.columns, *self.rows):
                cells = [x.rjust(w) for x, w in zip(row, widths, strict=True)]
                right = "  ".join(cells[j] for j in piece)
                out.append((f"{'  '.join(cells[: self.index])} │ {right}" if self.index else right).rstrip())
        return [*out, *([self.note] if self.note else [])]


@dataclass(eq=False)
class Rows:
    """Columns of one shape over named axes, before they are text.

    Fields: ``axes`` of every column; ``columns`` by name, arrays of that shape, or texts (dtype object); ``news`` True where a
    row tells something new (None: everywhere).
    """

    axes: tuple[str, ...]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    news: np.ndarray | None = None

    def table(self, state: int | None = None) -> Table:
        """The rows as text: those of one state where it is given, and of a long table only those with news."""
        shape = next(iter(self.columns.values())).shape
        shown = np.ones(shape, dtype=bool)
        if "mask" in self.columns and self.columns["mask"].dtype == bool:
            shown &= self.columns["mask"]
        if state is not None and "S" in self.axes:
            shown &= np.indices(shape)[self.axes.index("S")] == state
        notes = []
        if self.news is not None and shown.sum() > MOST_ROWS:
            old = int((shown & ~self.news).sum())
            shown &= self.news
            notes += [f"({old} rows without news)"] if old else []
        where = np.argwhere(shown)
        if len(where) > MOST_ROWS:
            how = "--state S shows those of one state" if "S" in self.axes else "--json shows all"
            notes.append(f"(and {len(where) - MOST_ROWS} more rows; {how})")
            where = where[:MOST_ROWS]
        names = [x for x in self.columns if x != "mask"]
        rows = [[*(str(i) for i in at), *(_cell(self.columns[x][tuple(at)]) for x in names)] for at in where]
        return Table([_LETTER.get(x, x) for x in self.axes] + names, rows, len(self.axes), " ".join(notes))


def number(x: Any) -> str:
    """A number with up to six digits, whole ones without a point."""
    if isinstance(x, bool | np.bool_):
        return "yes" if x else "no"
    if isinstance(x, int | np.integer):
        return str(int(x))
    return f"{float(x) + 0.0:.6g}"  # no minus before a zero


def vector(x: Iterable[Any]) -> str:
    """``[0.9, 0.1]``; a long one by its entries other than 0, ``{3: 0.5, 7: 0.5}``."""
    entries = np.asarray(list(x))
    if entries.dtype.kind == "f" and len(entries):  # what only rounding left of a probability
        entries = np.where(np.abs(entries) < 1e-15 * np.abs(entries).max(), 0.0, entries)
    if len(entries) <= INLINE:
        return "[" + ", ".join(number(v) for v in entries) + "]"
    kept = np.flatnonzero(entries)
    text = ", ".join(f"{i}: {number(entries[i])}" for i in kept[:INLINE])
    return "{" + text + (", ..." if len(kept) > INLINE else "") + "}"


def inline(q: Quantity) -> str | None:
    """A scalar or short vector as ``name = value``; None for what needs a table."""
    if not q.axes:
        return f"{q.name} = {q.value if isinstance(q.value, str) else number(q.value)}"
    if len(q.axes) == 1 and q.value.shape[0] <= INLINE:
        return f"{q.name} = {vector(q.value)}"
    return None


def grouped(found: Sequence[Quantity], news: Sequence[str] = (), before: Sequence[Quantity] = ()) -> list[Rows]:
    """Arrays over the same axes side by side; one with one axis more joins as vectors.

    ``news`` names the quantities whose change against ``before`` (or against 0) makes a row worth telling.
    """
    groups: dict[tuple[Any, ...], Rows] = {}
    for q in sorted(found, key=lambda q: q.value.ndim):
        shape = q.value.shape
        lower = (shape[:-1], q.axes[:-1])
        joins = q.value.ndim > 2 and (lower in groups or q.axes[-1] == "S'")
        key = lower if joins and (shape, q.axes) not in groups else (shape, q.axes)
        home = groups.setdefault(key, Rows(key[1]))
        home.columns[q.name] = q.value if len(q.axes) == len(home.axes) else _texts(q.value)
    old = {q.name: q.value for q in before}
    for (shape, _), rows in groups.items():
        own = [q for q in found if q.name in news and q.name in rows.columns and q.value.shape == shape]
        if own:
            changed = [q.value != _before(old.get(q.name), q.value) for q in own]
            rows.news = np.logical_or.reduce(changed)
    return [_spread(rows) for rows in groups.values()]


def _before(last: Any, now: np.ndarray) -> np.ndarray:
    return last if np.shape(last) == now.shape else np.zeros_like(now)


def _spread(rows: Rows) -> Rows:
    """A single matrix as a matrix: its last axis across."""
    if len(rows.columns) != 1 or len(rows.axes) < 2:
        return rows
    ((name, x),) = rows.columns.items()
    if x.shape[-1] > INLINE or x.dtype == object:
        return rows
    letter = _LETTER.get(rows.axes[-1], rows.axes[-1])
    columns = {f"{name}({letter}={k})": x[..., k] for k in range(x.shape[-1])}
    return Rows(rows.axes[:-1], columns, None if rows.news is None else np.asarray(rows.news.any(-1)))


def _texts(x: np.ndarray) -> np.ndarray:
    """The last axis as text."""
    out = np.empty(x.shape[:-1], dtype=object)
    for at in np.ndindex(out.shape):
        out[at] = vector(x[at])
    return out


def _cell(x: Any) -> str:
    return x if isinstance(x, str) else number(x)
