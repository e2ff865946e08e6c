"""verl's own losses, averages, KL penalties, estimators and corrections on a `Batch` (verl 0.9).

Settings are those of verl's ``ActorConfig``, ``PolicyLossConfig`` and ``RolloutCorrectionConfig``, by verl's names and with
verl's defaults (but nothing is corrected for the sampler unless asked for). What is computed is computed by
``verl.trainer.ppo.core_algos``; nothing is rewritten here. The batch is a mini-batch on one rank.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from polytheory._typing import Bool, Float
from polytheory.conformance.contract import Batch, Counts, Refused


def policy_loss(
    batch: Batch, *, loss_mode: str = "vanilla", counts: Counts | None = None, **settings: Any
) -> Float[torch.Tensor, ""]:
    """A registered policy loss of verl on the batch's advantages, averaged by ``loss_agg_mode``.

    ``rollout_is`` and ``rollout_rs``, with their thresholds, let verl compute its weights and rejections from
    ``log_probs_sampler`` first; in ``bypass_mode`` the sampler is the old policy, as verl has it.
    ``use_kl_loss=True`` adds verl's KL loss; ``counts`` are those of the whole mini-batch where ``batch`` is one of several
    micro-batches, whose losses verl sums. Raises `Refused` for names and values that verl does not take.
    """
    from verl.trainer.ppo.core_algos import agg_loss, get_policy_loss_fn, kl_penalty  # pyright: ignore

    actor = _actor(batch, {**settings, "loss_mode": loss_mode}, counts)
    log_probs, old, mask = batch.log_probs, batch.log_probs_old.detach(), batch.mask
    advantages = batch.advantages.detach()
    advantages = advantages if advantages.ndim == 2 else advantages[:, None] * mask
    weights = None
    correction = actor.policy_loss.rollout_correction
    if loss_mode == "bypass_mode":
        old = batch.log_probs_sampler.detach()
    elif correction.rollout_is or correction.rollout_rs:
        weights, mask = correct(batch, correction)
    try:
        loss, _ = get_policy_loss_fn(loss_mode)(
            old_log_prob=old, log_prob=log_probs, advantages=advantages, response_mask=mask,
            loss_agg_mode=actor.loss_agg_mode, config=actor, rollout_is_weights=weights,
        )  # fmt: skip
        if actor.use_kl_loss:
            kl = kl_penalty(logprob=log_probs, ref_logprob=batch.log_probs_ref.detach(), kl_penalty=actor.kl_loss_type)
            average = agg_loss(kl, mask, actor.loss_agg_mode, **actor.global_batch_info)
            loss = loss + actor.kl_loss_coef * average
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise Refused(f"verl, {loss_mode}: {error}") from error
    return loss


def kl_loss(
    batch: Batch, *, kl_loss_type: str = "low_var_kl", loss_agg_mode: str = "token-mean"
) -> Float[torch.Tensor, ""]:
    """verl's ``kl_penalty`` alone, averaged."""
    from verl.trainer.ppo.core_algos import agg_loss, kl_penalty  # pyright: ignore

    actor = _actor(batch, {"loss_agg_mode": loss_agg_mode})
    try:
        kl = kl_penalty(logprob=batch.log_probs, ref_logprob=batch.log_probs_ref.detach(), kl_penalty=kl_loss_type)
        return agg_loss(kl, batch.mask, loss_agg_mode, **actor.global_batch_info)
    except (ValueError, NotImplementedError) as error:
        raise Refused(f"verl has no KL penalty {kl_loss_type!r} with average {loss_agg_mode!r}") from error


def advantages(batch: Batch, *, estimator: str = "grpo", **settings: Any) -> Float[torch.Tensor, "n t"]:
    """A registered advantage estimator of verl, the score on the last trained token; 0 where masked.

    Args:
        estimator: verl's name.
        settings: what the estimator takes (``gamma``, ``lam``, ``norm_adv_by_std_in_grpo``, ...).

    The greedy reward of ``remax`` is given as 0, and the distribution that the optimal token baselines ask for is one of two
    words, the sampled one and another.
    """
    from verl.trainer.config import AlgoConfig  # pyright: ignore
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, get_adv_estimator_fn  # pyright: ignore

    if estimator not in ADV_ESTIMATOR_REGISTRY:
        raise Refused(f"verl has no estimator {estimator!r}; it has {', '.join(ADV_ESTIMATOR_REGISTRY)}")
    function = get_adv_estimator_fn(estimator)
    gamma, lam = settings.pop("gamma", 1.0), settings.pop("lam", 1.0)
    mask = batch.mask.to(batch.score.dtype)
    prob = batch.log_probs_old.detach().exp()
    given = {
        "token_level_rewards": token_rewards(batch), "response_mask": mask, "index": np.array(batch.group.tolist()),
        "config": AlgoConfig(gamma=gamma, lam=lam, adv_estimator=estimator), "gamma": gamma, "lam": lam,
        "values": batch.values.detach() * mask, "reward_baselines": torch.zeros_like(batch.score),
        "old_log_probs": batch.log_probs_old.detach(), "sum_pi_squared": prob**2 + (1 - prob) ** 2,
    }  # fmt: skip
    takes = inspect.signature(function).parameters
    unknown = set(settings) - set(takes)
    if unknown:
        raise Refused(f"verl's {estimator} takes no {', '.join(sorted(unknown))}")
    result, _ = function(**{name: x for name, x in given.items() if name in takes}, **settings)
    return torch.where(batch.mask, result, torch.zeros_like(result))


def correct(batch: Batch, correction: Any) -> tuple[Any, Bool[torch.Tensor, "n t"]]:
    """verl's weights of old policy over sampler (or None), and the mask less what it rejects."""
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_rejection_mask  # pyright: ignore

    try:
        proto, mask, _ = compute_rollout_correction_and_rejection_mask(
            old_log_prob=batch.log_probs_old.detach(), rollout_log_prob=batch.log_probs_sampler.detach(),
            response_mask=batch.mask, rollout_is=correction.rollout_is,
            rollout_is_threshold=correction.rollout_is_threshold,
            rollout_is_batch_normalize=correction.rollout_is_batch_normalize, rollout_rs=correction.rollout_rs,
            rollout_rs_threshold=correction.rollout_rs_threshold,
        )  # fmt: skip
    except (ValueError, AssertionError) as error:
        raise Refused(f"verl, rollout correction: {error}") from error
    return None if proto is None else proto.batch["rollout_is_weights"], mask.bool()


def token_rewards(batch: Batch) -> Float[torch.Tensor, "n t"]:
    """The score on the last trained token of every row."""
    place = torch.arange(1, batch.mask.shape[1] + 1)
    last = (batch.mask * place).argmax(1)
    rewards = torch.zeros(batch.mask.shape, dtype=batch.score.dtype)
    rewards[torch.arange(len(last)), last] = batch.score.detach()
    return rewards


def _actor(batch: Batch, settings: dict[str, Any], counts: Counts | None = None) -> Any:
    """An ``ActorConfig`` with the settings put where verl has them, and the counts of the batch."""
    from verl.trainer.config.algorithm import RolloutCorrectionConfig  # pyright: ignore
    from verl.workers.config import ActorConfig, PolicyLossConfig  # pyright: ignore

    levels = (ActorConfig, PolicyLossConfig, RolloutCorrectionConfig)
    parts: list[dict[str, Any]] = [{}, {}, {"rollout_is": None}]  # no correction unless one is asked for
    for name, value in settings.items():
        level = next((i for i, cls in enumerate(levels) if name in {f.name for f in fields(cls)}), None)
        if level is None:
            raise Refused(f"verl has no setting {name!r}")
        parts[level][name] = value
    counts = counts or batch.counts
    try:
        policy = PolicyLossConfig(**parts[1], rollout_correction=RolloutCorrectionConfig(**parts[2]))
        actor = ActorConfig(
            strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, policy_loss=policy, **parts[0]
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise Refused(f"verl: {error}") from error
    actor.global_batch_info.update(
        dp_size=1, batch_num_tokens=counts.tokens, global_batch_size=counts.sequences,
        loss_scale_factor=actor.loss_scale_factor,
    )  # fmt: skip
    return actor
