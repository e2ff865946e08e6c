"""TRL and verl as candidates of the kit: every row of the table whose formula is one target, on any batch.

``TRL`` and ``VERL`` can be named on the command line: ``polytheory conform polytheory.conformance.table.candidates:TRL``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from polytheory.conformance.contract import Batch, Candidate, Counts
from polytheory.conformance.table.formulas import FORMULAS
from polytheory.conformance.table.numbers import ROWS
from polytheory.conformance.table.rows import Row
from polytheory.conformance.targets import COLUMN, target

MULTIPLIED = "losses of tokens are multiplied by the mask, and NaN times 0 is NaN"
SQUARES = ("mse", "k2", "mse+", "k2+")


def candidate(row: Row) -> Candidate | None:
    """The row as a candidate; None where its formula is not one target or it is about one batch."""
    formula = FORMULAS.get(row.formula)
    if formula is None or row.batch != "small" or row.micro_batches > 1 or (row.reason and not row.fails):
        return None
    if "_" in str(row.settings.get("rollout_is_threshold", "")):
        return None  # verl raises where every weight is out of bounds, as happens on some generated batches; the table has one
    term, *more = formula.terms
    if more or term.counts != "both" or term.prepare:
        return None
    function = _function(row, target(term.target).kind == COLUMN)
    return Candidate(f"{row.framework} {row.name}", function, term.target, term.settings, deviations(row), row.settings)


def deviations(row: Row) -> dict[str, str]:
    """The checks of the kit that a row's framework is known to fail, and why.

    Both frameworks have finite numbers under the mask in practice, and ratios beyond the range of floats do not last long.
    """
    found, s = dict.fromkeys(row.fails, row.reason), row.settings
    if row.call == "grpo_loss":
        found["masked_garbage"] = MULTIPLIED
        if s["loss_type"] != "cispo":
            found["ratio_overflow"] = "log ratios are not clamped"
        if s["loss_type"] == "bnpo":
            found["micro_batches"] = "each micro-batch divides by its own number of tokens"
    by_rows = str(s.get("loss_agg_mode", "")).startswith("seq") or s.get("loss_mode") == "gspo"
    if row.framework == "verl" and (by_rows or s.get("loss_mode") == "cispo" or s.get("kl_loss_type") in SQUARES):
        found["masked_garbage"] = MULTIPLIED if by_rows else "the gradient of what lies under the mask is NaN times 0"
    return found


def _function(row: Row, column: bool) -> Callable[..., Any]:
    call = getattr(import_module(f"polytheory.conformance.adapters.{row.framework}"), row.call)
    if column or row.call in ("dpo_loss", "kl_loss"):
        return call

    def constant_length(batch: Batch, *, counts: Counts | None = None, **settings: Any) -> Any:
        return call(batch, counts=counts, **{**settings, "loss_scale_factor": batch.max_length})

    return constant_length if "loss_scale_factor" in row.settings else call


def with_eps(framework: str, call: str, eps: float, scale: str, **settings: Any) -> Candidate:
    """Advantages divided by a deviation, held against the formula with the framework's own epsilon."""
    row = Row(framework, call, settings)
    return Candidate(
        f"{framework} {row.name}", _function(row, True), "group_advantages", {"eps": eps, "scale": scale}, {}, settings
    )


def _all(framework: str, *more: Candidate) -> tuple[Candidate, ...]:
    rows = {row.name + row.formula: row for row in ROWS[framework]}.values()
    return (*(found for found in map(candidate, rows) if found is not None), *more)


TRL = _all(
    "trl",
    *(with_eps("trl", "grpo_advantages", 1e-4, scale, scale_rewards=scale) for scale in ("group", "batch")),
)
VERL = _all("verl", with_eps("verl", "advantages", 1e-6, "group", estimator="grpo"))
