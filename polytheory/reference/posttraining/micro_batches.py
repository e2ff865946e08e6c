"""Micro-batches: the rows of a step in consecutive pieces, so that one backward pass needs less memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from polytheory._typing import Int

Columns = dict[str, Any]


def micro_batches(columns: Columns, size: int | None) -> Iterator[Columns]:
    """Consecutive rows, at most ``size`` at a time (None: all of them), never splitting a group, a bundle or a pair.

    A unit with more rows than ``size`` is a micro-batch of its own. ``pairs`` go with their rows and are renumbered; all
    other columns are [n, ...]. The losses of the pieces add up to the whole's where their ``Counts`` are the whole's.
    """
    n = len(columns["mask"])
    if size is None or n <= size:
        yield columns
        return
    start, stops = 0, uncut(columns)
    for stop, following in zip(stops, [*stops[1:], n + size + 1], strict=True):
        if following - start > size:
            piece = {name: x[start:stop] for name, x in columns.items() if name != "pairs"}
            if "pairs" in columns:
                pairs = columns["pairs"]
                piece["pairs"] = pairs[((pairs >= start) & (pairs < stop)).all(axis=1)] - start
            yield piece
            start = stop


def uncut(columns: Columns) -> list[int]:
    """Numbers of leading rows that cut through no unit, ascending; the last is n."""
    n = len(columns["mask"])
    through = np.zeros(n + 1, dtype=np.int64)  # units that begin, less those that end, in row i
    for first, last in _spans(columns):
        np.add.at(through, first, 1)
        np.add.at(through, last, -1)
    return (np.flatnonzero(np.cumsum(through)[:n] == 0) + 1).tolist()


def _spans(columns: Columns) -> Iterator[tuple[Int[np.ndarray, " u"], Int[np.ndarray, " u"]]]:
    """First and last rows of every unit."""
    for name in ("group", "bundle"):
        if name in columns:
            _, label = np.unique(columns[name], return_inverse=True)
            rows, first = np.arange(len(label)), np.full(label.max(initial=-1) + 1, len(label))
            last = np.zeros_like(first)
            np.minimum.at(first, label, rows)
            np.maximum.at(last, label, rows)
            yield first, last
    if "pairs" in columns:
        yield columns["pairs"].min(axis=1), columns["pairs"].max(axis=1)
