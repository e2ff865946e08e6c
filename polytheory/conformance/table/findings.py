"""The numbers that the page's prose names, read from the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytheory.conformance.table.batches import named
from polytheory.conformance.table.candidates import TRL, VERL
from polytheory.conformance.table.formulas import FORMULAS, Numbers
from polytheory.conformance.table.numbers import ROWS, VERSIONS, TableError, distance, verdict
from polytheory.conformance.table.rows import Row

Kept = Mapping[str, Mapping[str, Numbers | str]]
CLOSE = 1e-13  # what the page says of rows that equal their formula; far above rounding, far below any mistake
FREE: dict[str, Any] = {"loss_mode": "vanilla", "clip_ratio_c": 1e6}
SUMS: dict[str, Any] = {**FREE, "loss_agg_mode": "seq-mean-token-sum-norm"}
SEQUENCE: dict[str, Any] = {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.1}
TWO, LIKELY, ALONE, HALF = "two tokens two ways", "four times as likely", "one and two", "half right"


def named_numbers(kept: Kept) -> dict[str, str]:
    """Every number of the prose by name. Raises `KeyError` for one whose row is not in the table."""

    def row(framework: str, call: str, on: str = "small", parts: int = 1, **settings: Any) -> Numbers:
        found = kept[framework][Row(framework, call, settings, batch=on, micro_batches=parts).name]
        assert isinstance(found, Numbers)
        return found

    def trl(call: str, **asked: Any) -> Numbers:
        return row("trl", call, **asked)

    def verl(call: str, **asked: Any) -> Numbers:
        return row("verl", call, **asked)

    def paper(formula: str, on: str = "small") -> Numbers:
        return FORMULAS[formula].numbers(named(on))[0]

    def off(formula: str, numbers: Numbers) -> str:
        return f"{distance(_column(numbers), _column(paper(formula))):.0e}"

    dppo: dict[str, Any] = {"on": LIKELY, "loss_mode": "dppo_tv"}
    numbers = {
        "dual_loss": loss(verl("policy_loss", loss_mode="vanilla")),
        "dual_norm": norm(verl("policy_loss", loss_mode="vanilla")),
        "ppo_loss": loss(paper("token mean")),
        "ppo_norm": norm(paper("token mean")),
        "cispo_norm": norm(trl("grpo_loss", on="on policy", loss_type="cispo")),
        "reinforce_norm": norm(paper("reinforce", "on policy")),
        "wide_loss": loss(verl("policy_loss", loss_mode="vanilla", clip_ratio=0.1)),
        "narrow_loss": loss(paper("narrow clip")),
        "gspo_tokens": loss(verl("policy_loss", loss_mode="gspo")),
        "gspo_loss": loss(paper("gspo")),
        "dppo_three": norm(verl("policy_loss", **dppo)),
        "dppo_twenty": norm(verl("policy_loss", **dppo, clip_ratio_c=20.0)),
        "k3_clamped": loss(verl("kl_loss", on="far from the reference", kl_loss_type="k3")),
        "k3_flat": norm(verl("kl_loss", on="far from the reference", kl_loss_type="k3")),
        "k3_value": loss(paper("k3", "far from the reference")),
        "k3_norm": norm(paper("k3", "far from the reference")),
        "kl_sequence": norm(trl("grpo_loss", on=TWO, **SEQUENCE)),
        "kl_token": norm(paper("unbiased kl", TWO)),
        "grpo_k3": norm(trl("grpo_loss", loss_type="grpo", beta=0.1, use_bias_correction_kl=False)),
        "grpo_rho_k3": norm(trl("grpo_loss", loss_type="grpo", beta=0.1)),
        "smooth_loss": loss(trl("dpo_loss", loss_type=["sigmoid"], label_smoothing=0.1)),
        "dpo_loss": loss(trl("dpo_loss", loss_type=["sigmoid"])),
        "gmpo_parts": loss(verl("policy_loss", loss_mode="geo_mean", parts=2)),
        "gmpo_loss": loss(verl("policy_loss", loss_mode="geo_mean")),
        "bnpo_parts": loss(trl("grpo_loss", loss_type="bnpo", parts=2)),
        "bnpo_loss": loss(trl("grpo_loss", loss_type="bnpo")),
        "norm_width": loss(verl("policy_loss", **SUMS)),
        "norm_constant": loss(verl("policy_loss", **SUMS, loss_scale_factor=8)),
        "gpg_zero": column(verl("advantages", on=HALF, estimator="gpg")),
        "gpg_one": column(verl("advantages", on=f"{HALF} shifted", estimator="gpg")),
        "rloo_loop": column(verl("advantages", on=ALONE, estimator="rloo")),
        "rloo_vectorized": column(verl("advantages", on=ALONE, estimator="rloo_vectorized")),
        "gdpo_trl": column(trl("grpo_advantages", multi_objective_aggregation="normalize_then_sum"), 1),
        "gdpo_verl": column(verl("advantages", estimator="gdpo"), 1),
        "eps_trl": off("group scaled", trl("grpo_advantages", scale_rewards="group")),
        "eps_verl": off("group scaled", verl("advantages", estimator="grpo")),
        "ipo_trl": loss(trl("dpo_loss", loss_type=["ipo"])),
        "ipo_trl_norm": norm(trl("dpo_loss", loss_type=["ipo"])),
        "ipo_loss": loss(paper("ipo")),
        "ipo_norm": norm(paper("ipo")),
        "rloo_off": loss(trl("rloo_loss")),
    }
    sizes = {f"{name}_rows": str(len(rows)) for name, rows in ROWS.items()}
    versions = {f"{name}_version": version for name, version in VERSIONS.items()}
    checked = {"trl_candidates": str(len(TRL)), "verl_candidates": str(len(VERL))}
    return {**numbers, **sizes, **versions, **checked, **counts(kept)}


def counts(kept: Kept) -> dict[str, str]:
    """How many rows equal their formula, do not, have none, and have no numbers."""
    found = [verdict(row, kept[name][row.name], kept[name]) for name, rows in ROWS.items() for row in rows]
    held = ["bare" if x is None else {"yes": "equal", "none": "refused"}.get(x.equal, "different") for x in found]
    if max(x.difference for x in found if x is not None and x.equal == "yes") > CLOSE:
        raise TableError(f"a row that equals its formula is further off than {CLOSE:g}, which the page does not say")
    return {
        "close": f"{CLOSE:g}",
        **{what: str(held.count(what)) for what in ("equal", "different", "bare", "refused")},
    }


def loss(numbers: Numbers) -> str:
    """A loss, four decimals."""
    return f"{numbers.loss:.4f}"


def norm(numbers: Numbers) -> str:
    """A gradient norm, four decimals."""
    return f"{numbers.gradient_norm:.4f}"


def column(numbers: Numbers, rows: int | None = None) -> str:
    """Advantages of the (first few) completions at their first token."""
    return ", ".join(f"{x:.4g}" for x in _column(numbers)[:rows])


def _column(numbers: Numbers) -> Any:
    assert numbers.values is not None
    return numbers.values[:, 0] if numbers.values.ndim == 2 else numbers.values
