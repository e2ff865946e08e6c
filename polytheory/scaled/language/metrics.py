"""What a step of fine-tuning reports, by the names that TRL's users know."""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import MismatchError

Columns = dict[str, Any]


def sampling(columns: Columns, max_length: int) -> dict[str, float]:
    """Rewards and lengths of the completions of a step.

    ``reward``, ``reward_std`` of the scores; ``rewards/<name>/mean``; ``completions/mean_length``,
    ``completions/clipped_ratio`` (share that did not end by itself); ``frac_reward_zero_std`` share of groups without
    any difference; ``num_tokens``.
    """
    score, mask = columns["score"].double(), columns["mask"]
    _, group = torch.unique(columns["group"], return_inverse=True)
    size = torch.bincount(group).double()
    mean = torch.zeros_like(size).index_add_(0, group, score) / size
    spread = torch.zeros_like(size).index_add_(0, group, (score - mean[group]).abs())
    lengths = mask.sum(1)
    info = {
        "reward": score.mean(), "reward_std": score.std() if len(score) > 1 else torch.zeros(()),
        "frac_reward_zero_std": (spread == 0).double().mean(), "completions/mean_length": lengths.double().mean(),
        "completions/clipped_ratio": 1 - columns["finished"].double().mean(), "num_tokens": lengths.sum(),
    }  # fmt: skip
    rewards = {
        f"rewards/{name.removeprefix('reward/')}/mean": x.mean()
        for name, x in columns.items()
        if name.startswith("reward/")
    }
    return {name: float(x) for name, x in {**info, **rewards}.items()}


def mismatch(
    now: Float[torch.Tensor, "n t"], sampler: Float[torch.Tensor, "n t"], mask: Bool[torch.Tensor, "n t"]
) -> dict[str, float]:
    """How far the trainer's log-probs are from the sampler's, at the same weights.

    ``mismatch/kl`` estimates KL(sampler || trainer) per token by the mean of ``exp(d) - 1 - d``, which is never negative;
    ``mismatch/max`` is the largest absolute difference; ``effective_sample_size`` is ``(sum w)^2 / (n sum w^2)`` of the
    sequences' weights, 1 for equal laws.
    """
    gap = torch.where(mask, now.double() - sampler.double(), 0.0)
    weight = gap.sum(1).clamp(-20, 20).exp()
    return {
        "mismatch/kl": float((gap.clamp(-20, 20).expm1() - gap).sum() / mask.sum()),
        "mismatch/max": float(gap.abs().max()),
        "effective_sample_size": float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())),
    }


def gate(found: dict[str, float], tolerance: float | None) -> None:
    """Raise `MismatchError` when sampler and trainer disagree by more than ``tolerance`` nats on any token."""
    if tolerance is not None and not found["mismatch/max"] <= tolerance:
        raise MismatchError(
            f"sampler and trainer differ by {found['mismatch/max']:.3g} nats on a token, allowed are {tolerance:g}; check "
            "temperature, dtype and that the sampler has the newest weights, or set mismatch_tolerance"
        )
