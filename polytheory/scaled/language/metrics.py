"""What a step of fine-tuning reports, by the names and with the meaning that TRL's users know, and some of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import DivergedError, MismatchError
from polytheory.scaled.language.ranks import Ranks
from polytheory.scaled.posttraining.advantages import group_index, group_total
from polytheory.scaled.posttraining.composition import Use
from polytheory.scaled.posttraining.kl import k3
from polytheory.scaled.posttraining.losses import over_tokens, token_log_ratio

Columns = dict[str, Any]
# a logit below 64 is rounded by at most 1/8 in bfloat16; a log-prob holds two logits, and there are two log-probs: 1/2 nat for
# a tolerance of 1e-4
LOW = 5000.0


def sampling(columns: Columns) -> dict[str, float]:
    """Rewards and lengths of the completions of a step.

    ``reward``, ``reward_std`` of the scores; ``rewards/<name>/mean`` and ``/std``; ``frac_reward_zero_std`` share of groups
    without any difference; ``completions/mean_length``, ``min_length``, ``max_length``, the same of those that ended by
    themselves (``*_terminated_length``, 0 without any) and ``completions/clipped_ratio``, the share of those that did not.
    """
    score, finished = columns["score"].double(), columns["finished"].bool()
    _, group = torch.unique(columns["group"], return_inverse=True)
    ends = score.new_zeros(2, int(group.max()) + 1)
    ends[0].scatter_reduce_(0, group, score, "amin", include_self=False)
    ends[1].scatter_reduce_(0, group, score, "amax", include_self=False)
    lengths = columns["mask"].sum(1).double()
    ended = lengths[finished] if bool(finished.any()) else lengths.new_zeros(1)
    info = {
        "reward": score.mean(), "reward_std": _std(score), "frac_reward_zero_std": (ends[0] == ends[1]).double().mean(),
        "completions/clipped_ratio": 1 - finished.double().mean(),
    }  # fmt: skip
    for kind, x in (("length", lengths), ("terminated_length", ended)):
        info |= {
            f"completions/mean_{kind}": x.mean(),
            f"completions/min_{kind}": x.min(),
            f"completions/max_{kind}": x.max(),
        }
    for column, x in columns.items():
        if column.startswith("reward/"):
            name = f"rewards/{column.removeprefix('reward/')}"
            info |= {f"{name}/mean": x.double().mean(), f"{name}/std": _std(x.double())}
    return {name: float(x) for name, x in info.items()}


def tokens(columns: Columns) -> int:
    """Tokens of prompts and completions, padding left out."""
    return int(columns["prompt_mask"].sum() + columns["mask"].sum())


def mismatch(
    now: Float[torch.Tensor, "n t"], sampler: Float[torch.Tensor, "n t"], mask: Bool[torch.Tensor, "n t"]
) -> dict[str, float]:
    """How far the trainer's log-probs are from the sampler's, at the same weights.

    ``mismatch/kl`` estimates KL(sampler || trainer) per token by the mean of ``exp(d) - 1 - d``, which is never negative;
    ``mismatch/max`` is the largest absolute difference, ``sampling/sampling_logp_difference/mean`` and ``/max`` are TRL's
    names for its mean and itself; ``effective_sample_size`` is ``(sum w)^2 / (n sum w^2)`` of the sequences' weights, 1 for
    equal laws.
    """
    gap = torch.where(mask, now.double() - sampler.double(), 0.0)
    weight = gap.sum(1).clamp(-20, 20).exp()
    largest = float(gap.abs().max())
    return {
        "mismatch/kl": float((gap.clamp(-20, 20).expm1() - gap).sum() / mask.sum()),
        "mismatch/max": largest,
        "sampling/sampling_logp_difference/mean": float(gap.abs().sum() / mask.sum()),
        "sampling/sampling_logp_difference/max": largest,
        "effective_sample_size": float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())),
    }


def gate(found: dict[str, float], tolerance: float | None, dtype: torch.dtype = torch.float32) -> None:
    """Raise `MismatchError` when sampler and trainer disagree by more than ``tolerance`` nats on any token.

    Below single precision it is multiplied by `LOW`.
    """
    if tolerance is None:
        return
    allowed = tolerance * (LOW if torch.finfo(dtype).eps > torch.finfo(torch.float32).eps else 1)
    if not found["mismatch/max"] <= allowed:
        raise MismatchError(
            f"sampler and trainer differ by {found['mismatch/max']:.3g} nats on a token, allowed are {allowed:g}; check "
            "temperature, dtype and that the sampler has the newest weights, or set mismatch_tolerance"
        )


class Tally:
    """Means over the tokens (or sequences) of all updates of a step, gathered pass by pass.

    ``entropy`` of the laws that tokens were drawn from, at the weights that sampled; ``kl`` to the reference, where the
    method has one; ``kl_old`` to the law that sampled, at the step's last update, where it has several;
    ``clip_ratio/low_mean``, ``high_mean``, ``region_mean``, or ``cispo_clip_ratio``: share of terms that the clip keeps
    from the gradient (that it caps);
    ``sampling/importance_sampling_ratio/*`` of a correction's weights; ``lower/deviation`` of a KL in the score: mean distance
    of ``r - beta log(pi / ref)`` from its mean over the group, 0 where the policy is the best for r.
    """

    def __init__(self, recipe: Sequence[Use], ranks: Ranks | None = None):
        self.recipe, self._ranks, self._update = recipe, ranks or Ranks(), 0
        self._sums: dict[str, tuple[float, int]] = {}  # sum and number of terms

    def add(self, columns: Columns, update: int, entropies: Float[torch.Tensor, "n t"] | None = None) -> None:
        """One pass of an update, counted from 0 in the step; ``columns`` with the current ``log_probs``.

        ``entropies`` belong to the first update. Passes of one update come one after the other.
        """
        mask, columns = columns["mask"], {**columns, "log_probs": columns["log_probs"].detach()}
        if entropies is not None:
            self._add("entropy", entropies.detach(), mask)
        if update:
            if update != self._update:
                self._sums.pop("kl_old", None)
            back = -token_log_ratio(columns, "log_probs_sampler").clamp(-20, 20)  # the samples are those of the old law
            self._add("kl_old", k3(back, torch.expm1), mask)
        self._update = update
        if "log_probs_ref" in columns:
            self._add("kl", k3(token_log_ratio(columns, "log_probs_ref").clamp(-20, 20), torch.expm1), mask)
        for use in self.recipe:
            if use.part in ("ppo_clip", "gspo"):
                self._clipped(columns, use.part == "gspo", use.settings["eps_low"], use.settings["eps_high"])
            elif use.part == "kl_in_score" and not update:
                index, count = group_index(columns["group"])
                score = columns["score"].double()  # the part took beta d off already
                self._add("lower/deviation", (score - group_total(score, index) / count).abs(), mask[:, 0])
            elif use.part == "cispo":
                ratio, a = token_log_ratio(columns, "log_probs_old").exp(), over_tokens(columns["advantages"], mask)
                self._add("cispo_clip_ratio", (ratio > use.settings["ratio_high"]) & (a > 0), mask)

    def _clipped(self, columns: Columns, sequences: bool, eps_low: float, eps_high: float) -> None:
        gap, a, each = token_log_ratio(columns, "log_probs_old"), columns["advantages"], columns["mask"]
        if sequences:
            gap, each = gap.sum(1) / each.sum(1), each[:, 0]
        else:
            a = over_tokens(a, each)
        low, high = (gap.exp() < 1 - eps_low) & (a < 0), (gap.exp() > 1 + eps_high) & (a > 0)
        for name, x in (("low", low), ("high", high), ("region", low | high)):
            self._add(f"clip_ratio/{name}_mean", x, each)

    def means(self) -> dict[str, float]:
        """What was gathered so far, in all processes."""
        found = self._ranks.sum(torch.tensor(list(self._sums.values()), dtype=torch.float64, device=self._ranks.device))
        return {name: total / n for name, (total, n) in zip(self._sums, found.tolist(), strict=True) if n}

    def _add(self, name: str, x: torch.Tensor, each: torch.Tensor) -> None:
        total, n = self._sums.get(name, (0.0, 0))
        chosen = x[each].double()
        self._sums[name] = (total + float(chosen.sum()), n + chosen.numel())


def weights_of_correction(columns: Columns) -> dict[str, float]:
    """``sampling/importance_sampling_ratio/min``, ``/mean``, ``/max`` of the column ``sampler_weights``, if it is there."""
    w = columns.get("sampler_weights")
    if w is None or not w.numel():
        return {}
    w = w[columns["mask"]] if w.ndim == 2 else w
    name = "sampling/importance_sampling_ratio"
    return {f"{name}/min": float(w.min()), f"{name}/mean": float(w.mean()), f"{name}/max": float(w.max())}


def bounded(found: dict[str, float], largest: float | None, step: int) -> None:
    """Raise `DivergedError` when a KL divergence among ``found`` exceeds ``largest`` nats per token."""
    if largest is None:
        return
    for name, to in (("kl_old", "the policy that sampled"), ("kl", "the reference")):
        if name in found and found[name] > largest:  # one that is no number has a loss that is none either
            raise DivergedError(
                f"step {step}: the policy is {found[name]:.3g} nats per token from {to} (key {name}), allowed are max_kl = "
                f"{largest:g}; lower step_size, make fewer updates a step, or raise beta where the method has it"
            )


def _std(x: torch.Tensor) -> torch.Tensor | float:
    return x.std() if len(x) > 1 else 0.0
