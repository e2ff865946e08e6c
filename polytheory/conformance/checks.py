"""The checks: small functions that hold a candidate against its formula, or against itself on an equivalent batch.

Each looks at a kind of batch or a change that no other check looks at, so that its name says what is wrong. ``value`` and
``gradient`` come first: with ordinary batches, on which nothing is ugly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.conformance.answers import Answer, Case, Mismatch, NothingToCompare, difference
from polytheory.conformance.contract import Batch
from polytheory.conformance.targets import LOSS
from polytheory.errors import UnknownNameError, require

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
        rows: fewest rows (and pairs) of a batch that there is something to compare on.
        vary: from a batch to a strategy of what else varies, a dict of plain values.
        inapplicable: from a case to the reason why it cannot be asked, or "".
    """

    name: str
    about: str
    run: Callable[[Case, Batch, Extra], Mismatch | None]
    ugly: tuple[str, ...]
    rows: int
    vary: Callable[[Batch], Any]
    inapplicable: Callable[[Case], str]


CHECKS: dict[str, Check] = {}


def check(
    *,
    ugly: tuple[str, ...] = (),
    rows: int = 1,
    vary: Callable[[Batch], Any] = lambda batch: st.just({}),
    unless: Callable[[Case], str] = lambda case: "",
) -> Callable[[Any], Any]:
    """Register a function as the check of its name; its docstring says what holds when it passes."""

    def register(function: Any) -> Any:
        about = " ".join((function.__doc__ or "").split())
        CHECKS[function.__name__] = Check(function.__name__, about, function, ugly, rows, vary, unless)
        return function

    return register


def named(name: str) -> Check:
    """The check of that name. Raises `UnknownNameError`."""
    if name not in CHECKS:
        raise UnknownNameError("check", name, CHECKS)
    return CHECKS[name]


def no_loss(case: Case) -> str:
    """Reason why a check of losses cannot be asked, or ""."""
    return "" if case.target.kind == LOSS else f"{case.target.name} is no loss"


def reads(*columns: str) -> Callable[[Case], str]:
    """As `no_loss`, for checks of what a formula does with some columns."""

    def reason(case: Case) -> str:
        missing = [name for name in columns if name not in case.reads]
        return f"{case.target.name} does not read {missing[0]}" if missing else ""

    return reason


def formula(case: Case, batch: Batch, of: tuple[str, ...] = ("value", "gradient")) -> Mismatch | None:
    """The candidate's answer on ``batch`` against the formula's."""
    want = case.expected(batch)
    return difference(case.answer(batch), want, U64 * want.scale, batch.mask, of)


def unchanged(case: Case, batch: Batch, other: Answer) -> Mismatch | None:
    """The candidate's answer on ``batch`` against another answer of its own that should be the same."""
    return difference(other, case.answer(batch), U64 * case.expected(batch).scale, batch.mask)


@check()
def value(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """On ordinary batches the answer equals the formula."""
    return formula(case, batch, ("value",))


@check(unless=no_loss)
def gradient(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """On ordinary batches the gradient in the current columns equals the formula's."""
    off_edges(case, batch)
    return formula(case, batch, ("gradient",))


@check(ugly=("on_policy",), unless=lambda case: no_loss(case) or reads("log_probs", "log_probs_old")(case))
def on_policy(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Where the old policy equals the current one, loss and gradient equal the formula."""
    off_edges(case, batch)
    return formula(case, batch)


@check(ugly=("unequal_groups",), unless=reads("group"))
def unequal_groups(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Groups of unequal sizes are handled as the formula says."""
    return formula(case, batch)


@check(ugly=("equal_scores",), unless=reads("group", "score"))
def equal_scores(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """A group whose scores are all equal gets what the formula says, not noise or NaN."""
    return formula(case, batch)


@check(ugly=("large_scores",), unless=reads("group", "score"))
def large_scores(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """A large constant in all scores costs no more digits than it must."""
    return formula(case, batch)


@check(
    ugly=("token_advantages",),
    unless=lambda case: "" if case.target.token_advantages else f"advantages of {case.target.name} are of sequences",
)
def token_advantages(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Advantages of tokens [n, t] are taken as such."""
    off_edges(case, batch)
    return formula(case, batch)


@check(
    ugly=("overflow",),
    unless=lambda case: (
        no_loss(case) or ("" if case.reads & {"log_probs_old", "log_probs_ref"} else f"{case.target.name} has no ratio")
    ),
)
def ratio_overflow(case: Case, batch: Batch, extra: Extra) -> Mismatch | None:
    """Log ratios of 1000 and -1000 leave loss and gradient finite."""
    found = case.answer(batch)
    for what, x in (("loss", found.value), *((f"gradient of {name}", g) for name, g in found.gradient.items())):
        bad = x[~np.isfinite(x)] if x.ndim else x.reshape(1)[~np.isfinite(x.reshape(1))]
        if bad.size:
            return Mismatch(f"{what} is not finite", None, float(bad[0]))
    return None


def off_edges(case: Case, batch: Batch) -> None:
    """Raise `NothingToCompare` where rounding could carry a log-prob over an edge."""
    if on_edge(case, batch, 1e-9):
        raise NothingToCompare


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
