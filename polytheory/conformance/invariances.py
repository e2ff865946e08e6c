"""Checks that hold a candidate against itself: on a batch that means the same, its answer must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.conformance.answers import Answer, Case, Mismatch, NothingToCompare, difference
from polytheory.conformance.batches import compacted, in_dtype, padded, rows_of, spoilt, with_pairs
from polytheory.conformance.checks import U32, U64, Extra, check, no_loss, on_edge, reads, unchanged
from polytheory.conformance.contract import Batch
from polytheory.conformance.targets import COLUMN, LOSS
from polytheory.errors import require
from polytheory.parts import Unit

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "scaled")

st: Any = require("hypothesis.strategies", "conform")


@check(
    ugly=("short_row",),
    rows=2,
    vary=lambda batch: st.sampled_from([{"under the mask": x} for x in ("nan", "inf", "-inf")]),
)
def masked_garbage(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """NaN and infinities under the mask change nothing."""
    return unchanged(case, batch, case.answer(spoilt(batch, float(extra["under the mask"]))))


@check(
    ugly=("spare_length",),
    vary=lambda batch: st.builds(
        lambda k, x: {"columns": k, "filled with": x}, st.integers(1, 2), st.sampled_from([0.0, 7.0])
    ),
)
def padding(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """More padding on the right changes nothing."""
    k, n = extra["columns"], len(batch.mask)
    wide = case.answer(padded(batch, k, extra["filled with"]))
    beyond = [(name, g[:, -k:]) for name, g in wide.gradient.items() if g[:, -k:].any()]
    if beyond:
        return Mismatch(f"gradient of {beyond[0][0]} on padding", 0.0, float(np.abs(beyond[0][1]).max()), 0.0)
    kept = wide.value[:, :-k] if wide.value.ndim == 2 and n else wide.value
    return unchanged(case, batch, Answer(kept, {name: g[:, :-k] for name, g in wide.gradient.items()}))


@check(rows=2, vary=lambda batch: st.permutations(range(len(batch.mask))).map(lambda x: {"order": _moved(list(x))}))
def row_order(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """The order of rows does not matter, also when the rows of a group are apart."""
    order = extra["order"]
    moved, back = case.answer(rows_of(batch, order)), np.argsort(order)
    kept = moved.value[back] if case.target.kind == COLUMN else moved.value
    return unchanged(case, batch, Answer(kept, {name: g[back] for name, g in moved.gradient.items()}))


def _moved(order: list[int]) -> list[int]:
    return order[::-1] if order == sorted(order) else order


@check(
    unless=reads("group"),
    vary=lambda batch: st.integers(1, 5).map(lambda k: {"group g is called": f"{100 * k} - {k} g"}),
)
def group_names(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """The ids of groups are names, not numbers."""
    k = int(extra["group g is called"].partition(" ")[0]) // 100
    return unchanged(case, batch, case.answer(batch.with_columns({"group": 100 * k - k * batch.group})))


@check(ugly=("holes",), unless=reads("mask"))
def mask_holes(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Untrained tokens inside a completion (a tool's) count as little as padding."""
    dense, source = compacted(batch)
    want, index = case.answer(dense), source.numpy()

    def spread(x: np.ndarray) -> np.ndarray:
        wide = np.zeros(batch.mask.shape)
        np.put_along_axis(wide, index, np.where(dense.mask.numpy(), x, 0.0), axis=1)
        return wide

    value = spread(want.value) if want.value.ndim == 2 else want.value
    apart = Answer(value, {name: spread(g) for name, g in want.gradient.items()})
    return difference(case.answer(batch), apart, U64 * case.expected(batch).scale, batch.mask)


def _divides_by_lengths(case: Case) -> str:
    if case.target.kind == LOSS and case.target.unit(case.settings) == Unit.PAIR:
        return "a pair has two completions"
    of_tokens = case.target.kind == COLUMN or case.target.unit(case.settings) == Unit.TOKEN
    if not of_tokens or case.settings.get("normalisation") == "seq_mean":
        return "the formula divides by the length of each row"
    return reads("mask")(case)


@check(ugly=("empty_rows",), unless=_divides_by_lengths)
def empty_rows(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Rows without a trained token add nothing."""
    full = batch.mask.any(1).numpy()
    want, got = case.answer(rows_of(batch, np.flatnonzero(full))), case.answer(batch)
    per_row = case.settings.get("normalisation") in ("seq_sum", "constant")  # rows are counted, also empty ones
    share = float(full.mean()) if per_row else 1.0
    scale = U64 * case.expected(batch).scale
    if case.target.kind == COLUMN:
        return difference(Answer(got.value[full]), want, scale, batch.mask[full])
    gradient = {name: np.zeros_like(g) for name, g in got.gradient.items()}
    for name, g in want.gradient.items():
        gradient[name][full, : g.shape[1]] = share * g
    return difference(got, Answer(np.asarray(share * want.value), gradient), scale, batch.mask)


@check()
def float32(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """In float32 the answer is the float64 one within the bound of rounding."""
    if case.target.kind == LOSS and on_edge(case, batch, 1e-5):
        raise NothingToCompare
    low, scale = case.answer(in_dtype(batch, torch.float32)), case.expected(batch).scale
    return difference(low, case.answer(batch), U32 * scale, batch.mask)


def _splits(case: Case) -> str:
    if case.candidate.takes_counts:
        return no_loss(case)
    return no_loss(case) or "the function takes no counts of the accumulated batch"


@check(rows=2, unless=_splits)
def micro_batches(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Losses and gradients of equally large micro-batches add up to those of the whole, given global counts."""
    size = _splittable(case, batch)
    parts = next(k for k in range(2, size + 1) if size % k == 0)
    return _in_parts(case, batch, np.split(np.arange(size), parts))


@check(
    ugly=("full_rows",), rows=3, unless=_splits, vary=lambda batch: st.integers(1, 8).map(lambda k: {"first part": k})
)
def unequal_micro_batches(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Losses and gradients of micro-batches add up where one micro-batch has more rows than the other."""
    size = _splittable(case, batch)
    cut = 1 + extra["first part"] % (size - 1)
    cut = size - 1 if 2 * cut == size else cut
    return _in_parts(case, batch, np.split(np.arange(size), [cut]))


def _splittable(case: Case, batch: Batch) -> int:
    return len(batch.pairs if case.target.unit(case.settings) == Unit.PAIR else batch.mask)


def _in_parts(case: Case, batch: Batch, parts: Any) -> Mismatch | None:
    """The whole against the sum over parts of its rows (of its pairs, for a loss of pairs)."""
    pairs = case.target.unit(case.settings) == Unit.PAIR
    total, slopes = 0.0, {name: np.zeros(batch.mask.shape) for name in case.target.now(case.settings)}
    for rows in parts:
        micro = with_pairs(batch, batch.pairs[rows]) if pairs else rows_of(batch, rows)
        part = case.answer(micro, batch.counts)
        total = total + part.value
        for name, g in part.gradient.items():
            slopes[name][slice(None) if pairs else slice(rows[0], rows[-1] + 1), : g.shape[1]] += g
    return unchanged(case, batch, Answer(np.asarray(total), slopes))


@check()
def inputs_untouched(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """The batch is left as it was."""
    given = batch.fresh(case.target.now(case.settings))
    case.answer_in_place(given)
    for name, x in given.columns().items():
        if not torch.equal(x.detach(), batch.columns()[name]):
            return Mismatch(f"{name} was changed in place")
    return None


@check()
def repeatable(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """The same batch gives the same answer again."""
    first = case.answer(batch)
    return difference(case.answer(batch), first, U64 * case.expected(batch).scale, batch.mask)
