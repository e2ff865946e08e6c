"""Losses of ours as policy losses of verl, averaged by verl's ``loss_agg_mode`` over verl's global counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.integrations.parts import all_parts, check_settings, refuse_given
from polytheory.integrations.verl.carried import PREFIX, refusal
from polytheory.parts import Part, Unit
from polytheory.scaled.posttraining.base import Counts, weights

AVERAGES = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "seq_sum",
    "seq-mean-token-sum-norm": "constant",
    "seq-mean-token-mean": "seq_mean",
}
OWN = {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.2, "clip_ratio_c": 3.0}


def policy_loss(part: Part) -> Callable[..., Any]:
    """verl's function for a loss of ours.

    It takes what verl gives its losses and returns ``(loss, metrics)``. Settings of the part are read from
    ``policy_loss.polytheory``. Rows without a trained token have no loss but count, as verl counts them.

    The function raises `SettingError` for a loss that verl cannot carry, for clip settings of verl's that would be ignored and
    for an average that does not fit; `UnknownNameError` for settings; `ColumnError` for advantages that do not fit.
    """

    def loss(
        old_log_prob: Float[torch.Tensor, "n t"],
        log_prob: Float[torch.Tensor, "n t"],
        advantages: Float[torch.Tensor, "n t"],
        response_mask: Float[torch.Tensor, "n t"],
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Float[torch.Tensor, "n t"] | None = None,
    ) -> tuple[Float[torch.Tensor, ""], dict[str, float]]:
        settings = check_loss(part, loss_agg_mode, config)
        mask = response_mask.bool()
        info = dict(_get(config, "global_batch_info") or {})
        counts, ranks = _counts(mask, info)
        keep = mask.any(1)
        if part.name == "nft":  # a packed 0: all answers of the prompt are right, or all are wrong
            keep = keep & ((advantages != 0) & mask).any(1)
        columns: dict[str, Any] = {"mask": mask, "log_probs": log_prob, "log_probs_old": old_log_prob}
        columns = {name: x[keep] for name, x in {**columns, "advantages": advantages}.items()}
        if rollout_is_weights is not None:
            columns["sampler_weights"] = rollout_is_weights[keep]
        metrics = {"actor/ppo_kl": _mean(columns["log_probs_old"] - log_prob.detach()[keep], columns["mask"])}
        if not bool(keep.any()):
            return 0.0 * torch.where(mask, log_prob, torch.zeros_like(log_prob)).sum(), metrics
        if part.unit == Unit.SEQUENCE:
            columns |= {name: per_row(columns, name) for name in ("advantages", "sampler_weights") if name in columns}
        if "verdict" in part.reads:
            if "sampler_weights" in columns:
                raise SettingError(
                    f"{PREFIX}nft takes no weights of the sampler; set rollout_correction.rollout_is=null"
                )
            columns = all_parts()["unpack_verdicts"](columns)
        terms = part(columns, **settings)
        w = weights(
            columns["mask"], part.unit, counts, normalisation=AVERAGES[loss_agg_mode],
            max_length=_get(config, "loss_scale_factor"), dtype=torch.promote_types(terms.dtype, torch.float32),
        )  # fmt: skip
        return ranks * (w * terms).sum(), metrics

    return loss


def check_loss(part: Part, average: str, config: Any) -> dict[str, Any]:
    """The part's settings in a configuration of verl's actor, checked with all that the part does not fit; raises as above."""
    name = PREFIX + part.name
    reason = refusal(part)
    if reason:
        raise SettingError(f"verl cannot carry {name}: {reason}")
    where = "set actor.policy_loss.polytheory.{eps_low,eps_high,...} instead"
    refuse_given("verl", {key: (_get(config, key, value), value, where) for key, value in OWN.items()})
    if average not in AVERAGES:
        raise UnknownNameError("loss_agg_mode", average, AVERAGES)
    if part.unit == Unit.SEQUENCE and average != "seq-mean-token-mean":
        raise SettingError(
            f"{name} is a mean over completions; loss_agg_mode = {average!r} has no meaning, set seq-mean-token-mean"
        )
    if average == "seq-mean-token-sum-norm" and not _get(config, "loss_scale_factor"):
        raise SettingError(
            "seq-mean-token-sum-norm divides by a constant length; set actor.loss_scale_factor (without it verl takes the "
            "width of the padded batch)"
        )
    return check_settings(part, _get(_get(config, "policy_loss"), "polytheory") or {})


def per_row(columns: Mapping[str, Any], name: str) -> Float[torch.Tensor, " n"]:
    """The one value that a column [n, t] has on all trained tokens of a row. Raises `ColumnError` where it has several."""
    x, mask = columns[name], columns["mask"]
    first = x.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))
    differs = ((x != first) & mask).any(1)
    if bool(differs.any()):
        i = int(differs.to(torch.int8).argmax())
        raise ColumnError(
            f"{name} differ between the tokens of row {i}; a loss of completions needs one number per row"
        )
    return first[:, 0]


def _counts(mask: Bool[torch.Tensor, "n t"], info: dict[str, Any]) -> tuple[Counts, int]:
    """Global counts as verl gives them, those of the batch where it gives none; and the number of ranks."""
    ranks = int(info.get("dp_size") or 1)
    tokens, rows = info.get("batch_num_tokens"), info.get("global_batch_size")
    if ranks > 1 and (tokens is None or rows is None):
        raise SettingError(
            f"dp_size = {ranks} without batch_num_tokens and global_batch_size; averages need global counts"
        )
    rows = int(mask.any(1).sum()) if rows is None else int(rows)
    return Counts(int(mask.sum()) if tokens is None else int(tokens), rows), ranks


def _mean(x: torch.Tensor, mask: torch.Tensor) -> float:
    return float(torch.where(mask, x, torch.zeros_like(x)).sum() / mask.sum().clamp(min=1))


def _get(config: Any, name: str, default: Any = None) -> Any:
    """A field of a dataclass of verl's, a DictConfig or nothing."""
    if config is None:
        return default
    found = config.get(name, default) if hasattr(config, "get") else getattr(config, name, default)
    return default if found is None else found
