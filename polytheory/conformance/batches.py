"""Batches that candidates are tried on: ordinary ones that shrink to something readable, and each kind of ugly one by name.

Numbers are small multiples of 1/16 so that every precision holds them exactly, ratios stay clear of the usual clip edges,
and no log-prob is positive. Needs the ``scaled`` and ``conform`` extras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.conformance.contract import Batch
from polytheory.errors import UnknownNameError, require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "scaled")

st: Any = require("hypothesis.strategies", "conform")

UGLY = (
    "on_policy", "overflow", "holes", "empty_rows", "unequal_groups", "equal_scores", "large_scores", "token_advantages",
    "spare_length", "full_rows", "short_row",
)  # fmt: skip
HUGE = 1000.0  # a log ratio whose exponential no float64 holds
_LOG_PROBS = ("log_probs_old", "log_probs_ref", "log_probs_sampler")


@st.composite
def batches(
    draw: Any,
    *,
    reads: Sequence[str] | frozenset[str],
    ugly: Sequence[str] = (),
    least_rows: int = 1,
    max_groups: int = 3,
    max_size: int = 3,
    max_length: int = 4,
) -> Batch:
    """Batches for something that reads the columns ``reads``; other columns are there, but vary less.

    Ordinary ones have groups of one size in order of their ids from 0, scores that differ within each group, right-padded
    completions of at least one token, the longest without padding, arbitrary numbers under the mask, and log-probs that are
    off policy at some token.

    Args:
        reads: columns that matter.
        ugly: what to have instead, names from `UGLY`. "on_policy": old log-probs equal the current ones. "overflow": log
            ratios of 1000 and -1000 among the others. "holes": tokens of a tool within completions. "empty_rows": rows
            without a trained token. "unequal_groups". "equal_scores": at least one group whose scores are all the same.
            "large_scores": ordinary scores plus a million. "token_advantages": [n, t]. "spare_length": ``max_length`` exceeds t
            by at least 2. "full_rows": all of one length. "short_row": one shorter than
            another (of at least two).
        least_rows: fewest rows, and pairs where these matter.
        max_groups, max_size, max_length: most groups, rows of one and tokens of a row, where what is wanted needs no more.
    """
    for name in ugly:
        if name not in UGLY:
            raise UnknownNameError("kind of batch", name, UGLY)
    sizes = _sizes(draw, reads, ugly, max_groups, max_size)
    while sum(sizes) < least_rows:
        sizes = [*sizes, sizes[0]]
    n = sum(sizes)
    mask = _mask(draw, n, max_length, ugly)
    t = mask.shape[1]
    junk = draw(st.sampled_from([0.0, -1.0, 5.0]))
    numbers = {name: np.where(mask, x, junk) for name, x in _log_probs(draw, reads, mask, ugly).items()}
    values = _sixteenths(draw, n * t, 16).reshape(n, t) if "values" in reads else np.full((n, t), 0.5)
    wide = "token_advantages" in ugly
    advantages = _sixteenths(draw, n * t if wide else n, 32) if "advantages" in reads else np.ones(n * t if wide else n)
    advantages = np.where(mask, advantages.reshape(n, t), junk) if wide else advantages
    score = _scores(draw, sizes, ugly) if "score" in reads else np.arange(n) / 2
    spare = draw(st.integers(2 if "spare_length" in ugly else 0, 3))
    tensors = {
        **numbers,
        "mask": mask,
        "values": np.where(mask, values, junk),
        "advantages": advantages,
        "score": score,
    }
    tensors["group"] = np.repeat(np.arange(len(sizes)), sizes)
    tensors["pairs"] = _pairs(draw, n, least_rows if "pairs" in reads else 0)
    more = {name: _sixteenths(draw, n, 16) for name in sorted(reads) if name not in Batch.__dataclass_fields__}
    own = {name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}
    return Batch(**own, max_length=t + spare, more={name: torch.from_numpy(x) for name, x in more.items()})


def rows_of(batch: Batch, rows: Any) -> Batch:
    """Some rows, by index and in that order, cut to the longest; pairs are renamed, or dropped where a row is missing."""
    index = torch.as_tensor(rows, dtype=torch.int64)
    place = torch.full((len(batch.mask),), -1, dtype=torch.int64)
    place[index] = torch.arange(len(index))
    pairs = place[batch.pairs]
    kept = {name: x[index] for name, x in batch.columns().items() if name != "pairs"}
    used = kept["mask"].any(0).nonzero()
    t = int(used.max()) + 1 if len(used) else 1
    cut = {name: x[:, :t] if x.ndim == 2 else x for name, x in kept.items()}
    return batch.with_columns({**cut, "pairs": pairs[(pairs >= 0).all(1)]})


def compacted(batch: Batch) -> tuple[Batch, torch.Tensor]:
    """Each row's trained tokens moved to its left, the rest cut off, and the columns [n, t'] that they came from."""
    t = int(batch.mask.sum(1).max())
    source = torch.argsort((~batch.mask).to(torch.int8), dim=1, stable=True)[:, :t]
    columns = {name: x for name, x in batch.columns().items() if x.ndim == 2 and name != "pairs"}
    return batch.with_columns({name: x.gather(1, source) for name, x in columns.items()}), source


def padded(batch: Batch, width: int, fill: float) -> Batch:
    """``width`` more columns of padding on the right, holding ``fill``."""

    def wider(name: str, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or name == "pairs":
            return x
        return torch.cat([x, torch.full((len(x), width), False if name == "mask" else fill, dtype=x.dtype)], 1)

    return batch.with_columns({name: wider(name, x) for name, x in batch.columns().items()})


def spoilt(batch: Batch, bad: float) -> Batch:
    """``bad`` in every number under the mask."""
    columns = {name: x for name, x in batch.columns().items() if x.ndim == 2 and x.is_floating_point()}
    return batch.with_columns({name: torch.where(batch.mask, x, bad) for name, x in columns.items()})


def in_dtype(batch: Batch, dtype: torch.dtype) -> Batch:
    """Every number in another precision."""
    columns = batch.columns().items()
    return batch.with_columns({name: x.to(dtype) for name, x in columns if x.is_floating_point()})


def with_pairs(batch: Batch, pairs: torch.Tensor) -> Batch:
    """Other pairs of the same rows."""
    return replace(batch, pairs=pairs)


def _sizes(draw: Any, reads: Any, ugly: Sequence[str], most: int, largest: int) -> list[int]:
    """Sizes of the groups, at least two where rows are compared."""
    least = 2 if {"group", "pairs"} & set(reads) or "empty_rows" in ugly else 1
    if "unequal_groups" in ugly:
        sizes = draw(st.lists(st.integers(2, 1 + max(2, largest)), min_size=2, max_size=max(2, most)))
        return sizes if len(set(sizes)) > 1 else [*sizes[:-1], sizes[0] + 1]
    return [draw(st.integers(least, max(least, largest)))] * draw(st.integers(1, most))


def _mask(draw: Any, n: int, longest: int, ugly: Sequence[str]) -> np.ndarray:
    empty, holes = "empty_rows" in ugly, "holes" in ugly
    lengths = draw(st.lists(st.integers(0 if empty else 1, longest), min_size=n, max_size=n))
    if "short_row" in ugly:
        lengths = [max(2, lengths[0]), *lengths[1:-1], 1]
    if "full_rows" in ugly:
        lengths = [lengths[0]] * n
    if empty:
        lengths[draw(st.integers(0, n - 1))] = 0
        if not any(lengths):
            lengths = [*lengths, 1][1:]
    if holes:
        i = draw(st.integers(0, n - 1))
        lengths[i] = max(lengths[i], 3)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    if holes:
        mask[i, draw(st.integers(1, lengths[i] - 2))] = False
        for j in range(n):
            if lengths[j] > 2 and draw(st.booleans()):
                mask[j, 1] = False
    return mask


def _log_probs(draw: Any, reads: Any, mask: np.ndarray, ugly: Sequence[str]) -> dict[str, np.ndarray]:
    """Current log-probs between -3 and -2, the others within 1.5 of them."""
    now = -2.0 - np.abs(_sixteenths(draw, mask.size, 16)).reshape(mask.shape)
    columns = {"log_probs": now}
    for k, name in enumerate(_LOG_PROBS):
        if name in reads:
            gap = _sixteenths(draw, mask.size, 24).reshape(mask.shape)
        else:
            gap = np.full(mask.shape, (k + 1) / 8)  # a candidate that takes the wrong column is noticed
        columns[name] = now - gap
    if "on_policy" in ugly:
        columns["log_probs_old"] = now.copy()
    elif "log_probs_old" in reads and (now == columns["log_probs_old"])[mask].all():
        i, j = np.argwhere(mask)[0]
        columns["log_probs_old"][i, j] -= 1 / 8
    if "overflow" in ugly:
        which = draw(st.lists(st.integers(-1, 1), min_size=mask.size, max_size=mask.size))
        size = np.array(which).reshape(mask.shape)
        i, j = np.argwhere(mask)[0]
        size[i, j] = size[i, j] or draw(st.sampled_from([-1, 1]))
        for name in _LOG_PROBS:
            columns[name] = np.where(size > 0, now - HUGE, columns[name])
        columns["log_probs"] = np.where(size < 0, now - HUGE, now)
    return columns


def _scores(draw: Any, sizes: Sequence[int], ugly: Sequence[str]) -> np.ndarray:
    """Quarters that differ within each group, ties among them."""
    n, flat = sum(sizes), "equal_scores" in ugly
    score = np.array(draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n)), dtype=float) / 4
    same = draw(st.integers(0, len(sizes) - 1)) if flat else -1
    ends = np.cumsum(sizes)
    for k, (start, end) in enumerate(zip(ends - sizes, ends, strict=True)):
        if k == same:
            score[start:end] = draw(st.sampled_from([0.0, 1.0, 0.1, 0.7]))  # 0.1 and 0.7: means of them are rounded
        elif len(set(score[start:end])) == 1:
            score[start] += 1.0
    return score + 1e6 if "large_scores" in ugly else score


def _pairs(draw: Any, n: int, least: int) -> np.ndarray:
    if not least:
        return np.zeros((0, 2), dtype=np.int64)
    pair = st.tuples(st.integers(0, n - 1), st.integers(1, n - 1)).map(lambda x: (x[0], (x[0] + x[1]) % n))
    return np.array(draw(st.lists(pair, min_size=least, max_size=3)), dtype=np.int64)


def _sixteenths(draw: Any, size: int, most: int) -> np.ndarray:
    return np.array(draw(st.lists(st.integers(-most, most), min_size=size, max_size=size)), dtype=float) / 16
