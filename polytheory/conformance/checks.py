"""The checks: small functions that hold a candidate against its formula, or against itself on an equivalent batch.

Each looks at a kind of batch or a change that no other check looks at, so that its name says what is wrong. ``value`` and
``gradient`` come first: with ordinary batches, on which nothing is ugly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.conformance.answers import Answer, Case, Mismatch, difference
from polytheory.conformance.batches import in_dtype, padded, rows_of, spoilt, with_pairs
from polytheory.conformance.contract import Batch
from polytheory.conformance.targets import COLUMN, LOSS
from polytheory.errors import UnknownNameError, require
from polytheory.parts import Unit

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "scaled")

st: Any = require("hypothesis.strategies", "conform")

U64, U32 = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
Extra = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Check:
    """One check.

    Fields:
        name, about: what it is called, and one sentence on what holds when it passes.
        run: from a case, a batch and what was varied to the mismatch, or None.
        ugly: kinds of batches, see `batches.UGLY`.
        vary: from a batch to a strategy of what else varies, a dict of plain values.
        inapplicable: from a case to the reason why it cannot be asked, or "".
    """

    name: str
    about: str
    run: Callable[[Case, Batch, Extra], Mismatch | None]
    ugly: tuple[str, ...]
    vary: Callable[[Batch], Any]
    inapplicable: Callable[[Case], str]


CHECKS: dict[str, Check] = {}


def check(
    about: str,
    *,
    ugly: tuple[str, ...] = (),
    vary: Callable[[Batch], Any] = lambda batch: st.just({}),
    unless: Callable[[Case], str] = lambda case: "",
) -> Callable[[Any], Any]:
    """Register a function as the check of its name."""

    def register(function: Any) -> Any:
        CHECKS[function.__name__] = Check(function.__name__, about, function, ugly, vary, unless)
        return function

    return register


def named(name: str) -> Check:
    """The check of that name. Raises `UnknownNameError`."""
    if name not in CHECKS:
        raise UnknownNameError("check", name, CHECKS)
    return CHECKS[name]


def _no_loss(case: Case) -> str:
    return "" if case.target.kind == LOSS else f"{case.target.name} is no loss"


def _reads(*columns: str) -> Callable[[Case], str]:
    def reason(case: Case) -> str:
        missing = [name for name in columns if name not in case.reads]
        return f"{case.target.name} does not read {missing[0]}" if missing else ""

    return reason


def _formula(case: Case, batch: Batch, of: tuple[str, ...] = ("value", "gradient")) -> Mismatch | None:
    want = case.expected(batch)
    return difference(case.answer(batch), want, U64 * want.scale, batch.mask, of)


def _unchanged(case: Case, batch: Batch, other: Answer) -> Mismatch | None:
    """The candidate's answer on ``batch`` against another answer of its own that should be the same."""
    return difference(other, case.answer(batch), U64 * case.expected(batch).scale, batch.mask)


@check("on ordinary batches the answer equals the formula")
def value(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return _formula(case, batch, ("value",))


@check("on ordinary batches the gradient in the current columns equals the formula's", unless=_no_loss)
def gradient(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return None if on_edge(case, batch, 1e-9) else _formula(case, batch, ("gradient",))


@check(
    "where the old policy equals the current one, loss and gradient equal the formula", ugly=("on_policy",),
    unless=lambda case: _no_loss(case) or _reads("log_probs", "log_probs_old")(case),
)  # fmt: skip
def on_policy(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return None if on_edge(case, batch, 1e-9) else _formula(case, batch)


@check(
    "NaN and infinities under the mask change nothing",
    vary=lambda batch: st.sampled_from([{"under the mask": x} for x in ("nan", "inf", "-inf")]),
)
def masked_garbage(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return _unchanged(case, batch, case.answer(spoilt(batch, float(extra["under the mask"]))))


@check(
    "more padding on the right changes nothing", ugly=("spare_length",),
    vary=lambda batch: st.builds(lambda k, x: {"columns": k, "filled with": x}, st.integers(1, 2), st.sampled_from([0.0, 7.0])),
)  # fmt: skip
def padding(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    k, n = extra["columns"], len(batch.mask)
    wide = case.answer(padded(batch, k, extra["filled with"]))
    beyond = [(name, g[:, -k:]) for name, g in wide.gradient.items() if g[:, -k:].any()]
    if beyond:
        return Mismatch(f"gradient of {beyond[0][0]} on padding", 0.0, float(np.abs(beyond[0][1]).max()), 0.0)
    kept = wide.value[:, :-k] if wide.value.ndim == 2 and n else wide.value
    return _unchanged(case, batch, Answer(kept, {name: g[:, :-k] for name, g in wide.gradient.items()}))


@check(
    "the order of rows does not matter, also when the rows of a group are apart",
    vary=lambda batch: st.permutations(range(len(batch.mask))).map(lambda x: {"order": list(x)}),
)
def row_order(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    order = extra["order"]
    moved, back = case.answer(rows_of(batch, order)), np.argsort(order)
    kept = moved.value[back] if case.target.kind == COLUMN else moved.value
    return _unchanged(case, batch, Answer(kept, {name: g[back] for name, g in moved.gradient.items()}))


@check(
    "the ids of groups are names, not numbers", unless=_reads("group"),
    vary=lambda batch: st.integers(1, 5).map(lambda k: {"group g is called": f"{100 * k} - {k} g"}),
)  # fmt: skip
def group_names(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    k = int(extra["group g is called"].partition(" ")[0]) // 100
    return _unchanged(case, batch, case.answer(batch.with_columns({"group": 100 * k - k * batch.group})))


@check("groups of unequal sizes are handled as the formula says", ugly=("unequal_groups",), unless=_reads("group"))
def unequal_groups(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return _formula(case, batch)


@check("a group whose scores are all equal gets what the formula says, not noise or NaN", ugly=("equal_scores",),
       unless=_reads("group", "score"))  # fmt: skip
def equal_scores(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return _formula(case, batch)


@check("a large constant in all scores costs no more digits than it must", ugly=("large_scores",),
       unless=_reads("group", "score"))  # fmt: skip
def large_scores(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return _formula(case, batch)


@check("untrained tokens inside a completion (a tool's) are left out as the formula says", ugly=("holes",),
       unless=_reads("mask"))  # fmt: skip
def mask_holes(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return None if case.target.kind == LOSS and on_edge(case, batch, 1e-9) else _formula(case, batch)


def _divides_by_lengths(case: Case) -> str:
    of_tokens = case.target.kind == COLUMN or case.target.unit(case.settings) in (Unit.TOKEN, Unit.PAIR)
    if not of_tokens or case.settings.get("normalisation") == "seq_mean":
        return "the formula divides by the length of each row"
    return _reads("mask")(case)


@check("rows without a trained token add nothing", ugly=("empty_rows",), unless=_divides_by_lengths)
def empty_rows(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return None if case.target.kind == LOSS and on_edge(case, batch, 1e-9) else _formula(case, batch)


@check(
    "advantages of tokens [n, t] are taken as such", ugly=("token_advantages",),
    unless=lambda case: "" if case.target.token_advantages else f"advantages of {case.target.name} are of sequences",
)  # fmt: skip
def token_advantages(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    return None if on_edge(case, batch, 1e-9) else _formula(case, batch)


@check(
    "log ratios of 1000 and -1000 leave loss and gradient finite", ugly=("overflow",),
    unless=lambda case: _no_loss(case)
    or ("" if case.reads & {"log_probs_old", "log_probs_ref"} else f"{case.target.name} has no ratio"),
)  # fmt: skip
def ratio_overflow(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    found = case.answer(batch)
    for what, x in (("loss", found.value), *((f"gradient of {name}", g) for name, g in found.gradient.items())):
        bad = x[~np.isfinite(x)] if x.ndim else x.reshape(1)[~np.isfinite(x.reshape(1))]
        if bad.size:
            return Mismatch(f"{what} is not finite", None, float(bad[0]))
    return None


@check("in float32 the answer is the float64 one within the bound of rounding")
def float32(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    if case.target.kind == LOSS and on_edge(case, batch, 1e-5):
        return None
    low, scale = case.answer(in_dtype(batch, torch.float32)), case.expected(batch).scale
    return difference(low, case.answer(batch), U32 * scale, batch.mask)


def _splits(case: Case) -> str:
    if case.candidate.takes_counts:
        return _no_loss(case)
    return _no_loss(case) or "the function takes no counts of the accumulated batch"


@check(
    "losses and gradients of equally large micro-batches add up to those of the whole, given global counts",
    unless=_splits,
)
def micro_batches(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    size = _splittable(case, batch)
    parts = next((k for k in range(2, size + 1) if size % k == 0), 0)
    return _in_parts(case, batch, np.split(np.arange(size), parts)) if parts else None


@check(
    "so they do where one micro-batch is larger than the other", unless=_splits,
    vary=lambda batch: st.integers(1, 8).map(lambda k: {"first part": k}),
)  # fmt: skip
def unequal_micro_batches(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    size = _splittable(case, batch)
    if size < 3 or extra["first part"] >= size or 2 * extra["first part"] == size:
        return None
    return _in_parts(case, batch, np.split(np.arange(size), [extra["first part"]]))


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
    return _unchanged(case, batch, Answer(np.asarray(total), slopes))


@check("the batch is left as it was")
def inputs_untouched(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    given = batch.fresh(case.target.now(case.settings))
    case.answer_in_place(given)
    for name, x in given.columns().items():
        if not torch.equal(x.detach(), batch.columns()[name]):
            return Mismatch(f"{name} was changed in place")
    return None


@check("the same batch gives the same answer again")
def repeatable(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    first = case.answer(batch)
    return difference(case.answer(batch), first, U64 * case.expected(batch).scale, batch.mask)


def on_edge(case: Case, batch: Batch, width: float) -> bool:
    """True where a current column is within ``width`` of an edge at which the gradient jumps: either side is right there.

    A smooth gradient moves by a share of about ``width``, one that jumps by a good part of itself.
    """
    sides = []
    for sign in (1, -1):
        moved = {name: batch.columns()[name] + sign * width for name in case.target.now(case.settings)}
        sides.append(case.expected(batch.with_columns(moved)).gradient)
    for name, up in sides[0].items():
        down = sides[1][name]
        larger = np.maximum(np.abs(up), np.abs(down))
        if ((np.abs(up - down) > 0.01 * larger) & (larger > 10 * width)).any():
            return True
    return False
