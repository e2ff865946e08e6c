"""TRL's own losses and advantages on a `Batch` (TRL 1.16): ``grpo_loss``, ``rloo_loss``, ``dpo_loss`` and the advantages.

Settings are those of TRL's configurations, by TRL's names, with TRL's defaults, and are checked by them. What is computed
is computed by methods of ``GRPOTrainer``, ``RLOOTrainer`` and ``DPOTrainer``; nothing is rewritten here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.conformance.adapters._trl_stub import config, double, equal_groups, generator, lengths_of, trainer
from polytheory.conformance.contract import Batch, Counts, Refused


def grpo_loss(batch: Batch, *, counts: Counts | None = None, **settings: Any) -> Float[torch.Tensor, ""]:
    """``GRPOTrainer._compute_loss`` with the batch's advantages; settings of ``GRPOConfig``.

    Args:
        counts: of the whole accumulated batch where ``batch`` is one of several micro-batches; TRL sums their losses.
        settings: ``use_vllm=True`` lets TRL compute its importance weights from ``log_probs_sampler`` first.

    Raises `Refused` for a setting that TRL refuses or that needs entropies, and for micro-batches of unequal size.
    """
    from trl import GRPOConfig  # pyright: ignore
    from trl.trainer.grpo_trainer import GRPOTrainer  # pyright: ignore

    if settings.get("top_entropy_quantile", 1.0) < 1.0 or settings.get("entropy_coef", 0.0):
        raise Refused("entropies of tokens are not among the columns")
    args = config(GRPOConfig, {"max_completion_length": batch.max_length, **settings})
    counts = counts or batch.counts
    if counts.sequences % len(batch.mask):
        raise Refused(f"{len(batch.mask)} of {counts.sequences} rows: TRL's micro-batches are equally large")
    steps = counts.sequences // len(batch.mask)
    args.steps_per_generation = steps
    with double():
        self = trainer(
            GRPOTrainer, args, current_gradient_accumulation_steps=steps, loss_type=args.loss_type, beta=args.beta,
            epsilon_low=args.epsilon,
            epsilon_high=args.epsilon if args.epsilon_high is None else args.epsilon_high,
            importance_sampling_level=args.importance_sampling_level, top_entropy_quantile=1.0,
            off_policy_mask_threshold=args.off_policy_mask_threshold, use_vllm=args.use_vllm,
            vllm_importance_sampling_correction=args.vllm_importance_sampling_correction,
            max_completion_length=args.max_completion_length, _entropy_bonus_enabled=False,
            _get_per_token_logps_and_entropies=lambda *_, **__: (batch.log_probs, torch.zeros_like(batch.mask), None),
        )  # fmt: skip
        inputs = {
            **tokens(batch), "advantages": batch.advantages.detach(), "num_items_in_batch": torch.tensor(counts.tokens),
            "old_per_token_logps": batch.log_probs_old.detach(), "ref_per_token_logps": batch.log_probs_ref.detach(),
        }  # fmt: skip
        if args.use_vllm:
            inputs["sampling_per_token_logps"] = batch.log_probs_sampler.detach()
            if args.vllm_importance_sampling_correction:
                inputs["importance_sampling_ratio"] = sampler_weights(batch, **settings)
        try:
            return self._compute_loss(self.model, inputs)
        except ValueError as error:
            raise Refused(f"GRPOTrainer: {error}") from error


def grpo_advantages(batch: Batch, **settings: Any) -> Float[torch.Tensor, " n"]:
    """The advantages of ``GRPOTrainer._generate_and_score_completions``: ``scale_rewards`` group, batch or none."""
    return _grpo_samples(batch, equal_groups(batch), settings)["advantages"]


def sampler_weights(batch: Batch, **settings: Any) -> Float[torch.Tensor, "n t"]:
    """TRL's importance weights of old policy over sampler: ``vllm_importance_sampling_mode`` and its bounds.

    They know nothing of groups, but the trainer wants some: every row is given twice, as one group.
    """
    twice = batch.with_columns({name: torch.cat([x, x]) for name, x in batch.columns().items()})
    n = len(batch.mask)
    ratio = _grpo_samples(twice, 2 * n, {**settings, "use_vllm": True})["importance_sampling_ratio"][:n]
    if ratio.shape[1] == 1:
        return ratio
    return torch.nn.functional.pad(ratio, (0, batch.mask.shape[1] - ratio.shape[1]), value=1.0)


def _grpo_samples(batch: Batch, size: int, settings: dict[str, Any]) -> dict[str, Any]:
    """What the trainer makes of the batch's samples in groups of ``size``."""
    from trl import GRPOConfig  # pyright: ignore
    from trl.trainer.grpo_trainer import GRPOTrainer  # pyright: ignore

    args = config(GRPOConfig, {**settings, "num_generations": size, "per_device_train_batch_size": len(batch.group)})
    lengths = lengths_of(batch)
    with double():
        self = generator(
            GRPOTrainer, args, batch, use_vllm=args.use_vllm, scale_rewards=args.scale_rewards,
            multi_objective_aggregation=args.multi_objective_aggregation,
            vllm_importance_sampling_correction=args.vllm_importance_sampling_correction,
            vllm_importance_sampling_mode=args.vllm_importance_sampling_mode,
            vllm_importance_sampling_clip_min=args.vllm_importance_sampling_clip_min,
            vllm_importance_sampling_clip_max=args.vllm_importance_sampling_clip_max,
        )  # fmt: skip
        ids = [[1] * length for length in lengths]
        mask = [row[:length] for row, length in zip(batch.mask.long().tolist(), lengths, strict=True)]
        sampler = [row[:length] for row, length in zip(batch.log_probs_sampler.tolist(), lengths, strict=True)]
        generated = ([[1]] * len(ids), ids, mask, ids, sampler if args.use_vllm else None, {}, None, None)
        self._generate = lambda _: generated
        return self._generate_and_score_completions([{"prompt": ""} for _ in ids])


def rloo_loss(batch: Batch, **settings: Any) -> Float[torch.Tensor, ""]:
    """``RLOOTrainer._compute_loss`` with the batch's advantages; settings of ``RLOOConfig``."""
    from trl import RLOOConfig  # pyright: ignore
    from trl.trainer.rloo_trainer import RLOOTrainer  # pyright: ignore

    args = config(RLOOConfig, settings)
    with double():
        self = trainer(
            RLOOTrainer, args, epsilon_low=args.epsilon,
            epsilon_high=args.epsilon if args.epsilon_high is None else args.epsilon_high,
            _get_per_token_logps_and_entropies=lambda *_, **__: (batch.log_probs, torch.zeros_like(batch.mask), None),
        )  # fmt: skip
        old = (batch.log_probs_old.detach() * batch.mask).sum(1)
        return self._compute_loss(
            self.model, {**tokens(batch), "old_logps": old, "advantages": batch.advantages.detach()}
        )


def rloo_advantages(batch: Batch, **settings: Any) -> Float[torch.Tensor, " n"]:
    """The advantages of ``RLOOTrainer._generate_and_score_completions``: ``beta``, ``normalize_advantages``, ...

    Raises `Refused` for masks with holes, which this trainer does not have.
    """
    from trl import RLOOConfig  # pyright: ignore
    from trl.trainer.rloo_trainer import RLOOTrainer  # pyright: ignore

    lengths = lengths_of(batch)
    if batch.mask.sum(1).tolist() != lengths:
        raise Refused("RLOOTrainer trains on every token up to the end of a completion")
    size = equal_groups(batch)
    args = config(RLOOConfig, {**settings, "num_generations": size, "per_device_train_batch_size": len(batch.group)})
    with double():
        self = generator(
            RLOOTrainer, args, batch, normalize_advantages=args.normalize_advantages,
            reward_clip_range=args.reward_clip_range,
        )  # fmt: skip
        ids = [[1] * length for length in lengths]
        self._generate = lambda _: ([[1]] * len(ids), ids, ids)
        return self._generate_and_score_completions([{"prompt": ""} for _ in ids])["advantages"]


def dpo_loss(batch: Batch, **settings: Any) -> Float[torch.Tensor, ""]:
    """``DPOTrainer._compute_loss`` on the batch's pairs; settings of ``DPOConfig``, ``loss_type`` a list or a name.

    Raises `Refused` for a setting that TRL refuses or that needs more of a model than log-probs of tokens.
    """
    from trl import DPOConfig  # pyright: ignore
    from trl.trainer.dpo_trainer import DPOTrainer  # pyright: ignore

    if settings.get("use_weighting"):
        raise Refused("use_weighting needs the whole distribution of every token")
    if settings.get("f_divergence_type") == "alpha_divergence":
        raise Refused("DPOTrainer computes the alpha divergence in single precision only and rejects float64")
    args = config(DPOConfig, settings)
    smoothing = args.label_smoothing
    if ("exo_pair" in args.loss_type and not smoothing) or ("robust" in args.loss_type and not 0 <= smoothing < 0.5):
        raise Refused(f"DPOTrainer refuses label_smoothing = {smoothing} with loss_type {args.loss_type}")
    rows = batch.pairs.T.reshape(-1)
    mask = batch.mask[rows]
    with double():

        def outputs(columns: torch.Tensor) -> SimpleNamespace:
            log_probs = torch.where(mask, columns[rows], torch.zeros_like(columns[rows]))
            nothing = torch.zeros_like(mask)
            return SimpleNamespace(log_probs=log_probs, entropy=nothing.double(), mean_logits=nothing, is_top1=nothing)

        self = trainer(
            DPOTrainer, args, ref_model=lambda **_: outputs(batch.log_probs_ref.detach()), precompute_ref_logps=False,
            ld_alpha=args.ld_alpha, f_divergence_type=args.f_divergence_type, beta=args.beta,
            f_alpha_divergence_coef=args.f_alpha_divergence_coef, loss_types=args.loss_type,
            loss_weights=args.loss_weights or [1.0] * len(args.loss_type), label_smoothing=smoothing,
            use_weighting=False, _total_train_tokens=0, _tp_size=1,
        )  # fmt: skip
        before = torch.zeros_like(mask[:, :1])
        inputs = {
            "input_ids": torch.ones(mask.shape[0], mask.shape[1] + 1, dtype=torch.long),
            "attention_mask": torch.cat([~before, mask], 1).long(), "completion_mask": torch.cat([before, mask], 1).long(),
        }  # fmt: skip
        self.model = _Policy(lambda: outputs(batch.log_probs))
        try:
            return self._compute_loss(self.model, inputs, return_outputs=False)
        except ValueError as error:
            raise Refused(f"DPOTrainer: {error}") from error


class _Policy(torch.nn.Module):
    """A model that returns given outputs."""

    is_gradient_checkpointing = False

    def __init__(self, outputs: Any):
        super().__init__()
        self.outputs = outputs

    def forward(self, **_: Any) -> Any:
        return self.outputs()


def tokens(batch: Batch) -> dict[str, torch.Tensor]:
    """What a trainer passes to its model: tokens that mean nothing, and the masks."""
    n = len(batch.mask)
    prompt = torch.ones(n, 1, dtype=torch.long)
    ids = torch.ones(batch.mask.shape, dtype=torch.long)
    return {"prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": ids, "completion_mask": batch.mask.long()}
