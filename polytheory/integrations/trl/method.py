"""Which parts a run of TRL's trainer consists of, and that nothing is said twice or in vain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from polytheory.errors import SettingError, UnknownNameError
from polytheory.integrations.parts import all_parts, check_settings, named, refuse_given
from polytheory.integrations.trl.carried import CHOSEN, refusal
from polytheory.parts import Kind, Part, Unit
from polytheory.scaled.posttraining.composition import Composition, Use

HERE = "set it on the trainer: advantage, loss, normalisation, kl, beta and their settings"
# settings of TRL for advantages and losses, which the trainer replaces
REPLACED = (
    "loss_type", "beta", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "scale_rewards",
    "multi_objective_aggregation", "top_entropy_quantile", "entropy_coef", "use_adaptive_entropy",
    "off_policy_mask_threshold", "use_bias_correction_kl", "sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos",
    "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
)  # fmt: skip
# fields of a composition that TRL decides on, and where
TRLS_OWN = {
    "rounds": "a GRPOTrainer samples once a step",
    "updates": "use GRPOConfig(num_iterations=...)",
    "step_size": "use GRPOConfig(learning_rate=...)",
    "update": "the optimiser is TRL's",
    "micro_batch_size": "use GRPOConfig(per_device_train_batch_size=...)",
    "refresh": "a GRPOTrainer samples from the newest policy",
}


@dataclass(frozen=True, eq=False)
class Named(Composition):
    """Parts chosen by name. Fields: ``uses`` the recipe; further as in `Composition`."""

    uses: tuple[Use, ...] = ()
    name: ClassVar[str] = "trl"

    def recipe(self) -> tuple[Use, ...]:
        """The parts in order."""
        return self.uses


def by_name(
    *,
    advantage: str,
    loss: str,
    normalisation: str,
    advantage_settings: Mapping[str, Any] | None,
    loss_settings: Mapping[str, Any] | None,
    kl: str,
    beta: float,
) -> Named:
    """A composition of an advantage, a loss and, with ``beta`` > 0, a KL loss; names and errors as `PolytheoryGRPOTrainer`."""
    first, second = named(Kind.ADVANTAGE, advantage), named(Kind.LOSS, loss)
    for part in (first, second):
        reason = refusal(part)
        if reason:
            raise SettingError(f"TRL's GRPOTrainer cannot carry {part.name}: {reason}")
    uses = [
        Use(first.name, check_settings(first, advantage_settings or {})),
        Use(second.name, check_settings(second, loss_settings or {})),
    ]
    if not beta >= 0:
        raise SettingError(f"beta = {beta}; a KL coefficient is >= 0")
    if beta:
        estimates = [n.removeprefix("kl_") for n in all_parts().names(Kind.LOSS) if n.startswith("kl_")]
        if kl not in estimates:
            raise UnknownNameError("kl", kl, estimates)
        uses.append(Use(f"kl_{kl}", weight=beta))
    return Named(policy=None, normalisation=normalisation, uses=tuple(uses))


def fitted(composition: Composition, args: Any) -> Composition:
    """``composition`` with TRL's numbers of prompts and completions and its length.

    Raises `SettingError` for a setting that both have and that differs, or that would be ignored; `ColumnError` for parts
    that read what TRL does not have.
    """
    refuse_given("GRPOConfig", {name: (getattr(args, name), _default(type(args), name), HERE) for name in REPLACED})
    if "pairs" in composition.GIVEN:
        raise SettingError(f"TRL's GRPOTrainer cannot carry {composition.name}: {CHOSEN}")
    if not composition.samples_itself:
        raise SettingError(
            f"{composition.name} samples from other policies; TRL's GRPOTrainer samples from its own only"
        )
    for name, instead in TRLS_OWN.items():
        value = getattr(composition, name, None)
        if value is not None and value != _default(type(composition), name):
            raise SettingError(f"{name} = {value!r} of the composition would be ignored; {instead}")
    sizes = {
        "prompts": ("generation_batch_size / num_generations", args.generation_batch_size // args.num_generations),
        "group_size": ("num_generations", args.num_generations),
        "max_length": ("max_completion_length", args.max_completion_length),
    }
    for name, (theirs, number) in sizes.items():
        value = getattr(composition, name)
        if value not in (number, _default(type(composition), name)):
            raise SettingError(f"{name} = {value} but TRL's {theirs} is {number}; leave one out")
    composition = replace(composition, **{name: number for name, (_, number) in sizes.items()})
    recipe = [part_of(use) for use in composition.recipe()]
    given = [c for c in composition.GIVEN if args.use_vllm or c != "log_probs_sampler"]
    all_parts().check_order([part.name for part in recipe], given)
    if any("sampler_weights" in part.writes for part in recipe) and args.vllm_importance_sampling_correction:
        raise SettingError("both correct for the sampler; set GRPOConfig(vllm_importance_sampling_correction=False)")
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise SettingError(
            f"steps_per_generation = {args.steps_per_generation} is no multiple of gradient_accumulation_steps = "
            f"{args.gradient_accumulation_steps}; averages need the whole accumulated batch before its first piece"
        )
    if whole_groups(composition) and args.per_device_train_batch_size % args.num_generations:
        raise SettingError(
            f"{composition.name} compares completions of a prompt: per_device_train_batch_size = "
            f"{args.per_device_train_batch_size} must be a multiple of num_generations = {args.num_generations}"
        )
    return composition


def part_of(use: Use) -> Part:
    """The part that an entry of a recipe names."""
    return all_parts()[use.part]


def is_loss(use: Use) -> bool:
    """True for a loss."""
    return part_of(use).kind == Kind.LOSS


def forms_pairs(use: Use) -> bool:
    """True for a part that pairs completions, which is done within each micro-batch."""
    return "pairs" in part_of(use).writes


def whole_groups(composition: Composition) -> bool:
    """True where the loss compares completions, so that micro-batches must not split groups."""
    return any(is_loss(use) and part_of(use).unit in (Unit.PAIR, Unit.GROUP) for use in composition.recipe())


def kl_weight(composition: Composition) -> float:
    """The ``beta`` that makes TRL compute log-probs of the reference policy: 0 where nothing reads them."""
    reading = [use for use in composition.recipe() if "log_probs_ref" in part_of(use).reads]
    return float(reading[-1].weight) if reading else 0.0


def _default(cls: Any, name: str) -> Any:
    found = {f.name: f for f in fields(cls)}
    return found[name].default if name in found and found[name].default is not MISSING else None
