"""Micro-batches: the rows of a step in consecutive pieces, so that one backward pass needs less memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

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
                piece["pairs"] = pairs[((pairs >= start) & (pairs < stop)).all(1)] - start
            yield piece
            start = stop


def uncut(columns: Columns) -> list[int]:
    """Numbers of leading rows that cut through no unit, ascending; the last is n."""
    n = len(columns["mask"])
    through = torch.zeros(n + 1, dtype=torch.int64, device=columns["mask"].device)  # begins less ends in row i
    for first, last in _spans(columns):
        one = torch.ones_like(first)
        through = through.index_add(0, first, one).index_add(0, last, -one)
    return (torch.nonzero(through.cumsum(0)[:n] == 0)[:, 0] + 1).tolist()


def _spans(columns: Columns) -> Iterator[tuple[Int[torch.Tensor, " u"], Int[torch.Tensor, " u"]]]:
    """First and last rows of every unit."""
    for name in ("group", "bundle"):
        if name in columns:
            found, label = torch.unique(columns[name], return_inverse=True)
            rows, ends = torch.arange(len(label), device=label.device), torch.zeros(len(found), dtype=torch.int64)
            ends = ends.to(label.device)
            yield (
                ends.scatter_reduce(0, label, rows, "amin", include_self=False),
                ends.scatter_reduce(0, label, rows, "amax", include_self=False),
            )
    if "pairs" in columns:
        yield columns["pairs"].amin(1), columns["pairs"].amax(1)
