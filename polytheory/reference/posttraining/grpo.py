"""Group Relative Policy Optimization and its relatives as one composition.

Setting: a prompt x, G completions y_i sampled from the old policy, one score R_i each. The loss is the clipped surrogate of
the ratio to the old policy with the advantages ``A_i = (R_i - mean) / (std + eps)`` of the group, averaged first over the
tokens of a completion, plus ``beta`` times a KL estimate to the reference policy [shao2024, eq. 3].

Relatives by setting: Dr. GRPO ``scale="none", normalisation="constant"`` [liu2025]; DAPO ``eps_high=0.28,
normalisation="token_mean", dynamic=True`` [yu2025]; GSPO ``surrogate="gspo"`` [zheng2025]; CISPO ``surrogate="cispo"``
[minimax2025]; RLOO ``advantage="rloo", surrogate="reinforce", normalisation="seq_sum"`` [ahmadian2024].

References: [shao2024] Shao et al., DeepSeekMath, arXiv 2402.03300. [liu2025] Liu et al., Understanding R1-Zero-Like
Training, arXiv 2503.20783. [yu2025] Yu et al., DAPO, arXiv 2503.14476. [zheng2025] Zheng et al., Group Sequence Policy
Optimization, arXiv 2507.18071. [minimax2025] MiniMax-M1, arXiv 2506.13585. [ahmadian2024] Ahmadian et al., Back to Basics,
ACL 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.errors import SettingError, UnknownNameError
from polytheory.reference.posttraining.advantages import group_advantages as group_advantages
from polytheory.reference.posttraining.advantages import rloo_advantages as rloo_advantages
from polytheory.reference.posttraining.composition import Composition, Use
from polytheory.reference.posttraining.corrections import masked_is as masked_is
from polytheory.reference.posttraining.corrections import truncated_is as truncated_is
from polytheory.reference.posttraining.kl import kl_in_score as kl_in_score
from polytheory.reference.posttraining.kl import kl_k3 as kl_k3
from polytheory.reference.posttraining.log_probs import token_log_probs as token_log_probs
from polytheory.reference.posttraining.losses import ppo_clip as ppo_clip
from polytheory.reference.posttraining.pairs import dpo as dpo
from polytheory.reference.posttraining.pairs import ipo as ipo
from polytheory.reference.posttraining.rewards import dynamic_sampling as dynamic_sampling
from polytheory.reference.posttraining.rewards import informative
from polytheory.reference.posttraining.rewards import overlong_shaping as overlong_shaping
from polytheory.reference.posttraining.robust_scores import worst_mixture_score as worst_mixture_score
from polytheory.reference.posttraining.softmax import TabularSoftmax as TabularSoftmax

ADVANTAGES = ("group", "rloo")
SURROGATES = ("ppo_clip", "gspo", "cispo", "reinforce")
CORRECTIONS = ("none", "truncate", "mask")
KL_ESTIMATES = ("k1", "k2", "k3", "rho_k3", "in_score")


@dataclass(frozen=True, eq=False)
class Grpo(Composition):
    """GRPO and its relatives; further fields as in `Composition`.

    Fields:
        advantage: "group" (mean and deviation of the group) or "rloo" (mean of the others).
        scale: "group" divides by the group's deviation (GRPO), "batch" by the batch's, "none" by nothing (Dr. GRPO).
        ddof: 1 Bessel-corrected (both libraries), 0 population.
        eps: added to the deviation, >= 0; TRL 1e-4, verl 1e-6.
        surrogate: "ppo_clip", "gspo", "cispo" or "reinforce" (no ratio).
        eps_low, eps_high: clip widths, >= 0; the paper 0.2 and 0.2, DAPO 0.2 and 0.28, GSPO 3e-4 and 4e-4. For "cispo" the
            weight is clipped to [0, 1 + eps_high].
        dual: bound on the loss of bad tokens (> 1), or None.
        beta: coefficient of the KL loss, >= 0; the paper 0.04, 0 leaves it out.
        kl: its estimate, "k1", "k2", "k3" (the paper) or "rho_k3"; or "in_score", k1 of the whole completion off the score
            before advantages [ahmadian2024], whose gradient with "seq_sum" is that of the KL between completions.
        dynamic: drop groups whose scores are all equal and sample up to ``rounds`` rounds until ``prompts`` groups are
            left (DAPO); a step without any such group changes nothing.
        overlong: penalise completions in the last so many tokens before the horizon (DAPO); 0 for none.
        correction: importance weights between sampler and trainer, "none", "truncate" or "mask".
        correction_unit: "token" or "sequence". cap: largest such weight, > 0.

    Raises `SettingError`, `UnknownNameError`.
    """

    advantage: str = "group"
    scale: str = "group"
    ddof: int = 1
    eps: float = 1e-4
    surrogate: str = "ppo_clip"
    eps_low: float = 0.2
    eps_high: float = 0.2
    dual: float | None = None
    beta: float = 0.04
    kl: str = "k3"
    dynamic: bool = False
    overlong: int = 0
    correction: str = "none"
    correction_unit: str = "token"
    cap: float = 2.0

    name: ClassVar[str] = "grpo"

    def __post_init__(self) -> None:
        choices = {"advantage": ADVANTAGES, "surrogate": SURROGATES, "kl": KL_ESTIMATES, "correction": CORRECTIONS}
        for kind, allowed in choices.items():
            if getattr(self, kind) not in allowed:
                raise UnknownNameError(kind, getattr(self, kind), allowed)
        if not self.beta >= 0:
            raise SettingError(f"beta = {self.beta}; a KL coefficient is >= 0, the paper takes 0.04")
        if self.group_size < 2:
            raise SettingError(f"group_size = {self.group_size}; a group's baseline needs at least 2 completions")
        if self.overlong and self.max_length is None:
            raise SettingError(f"overlong = {self.overlong} counts back from max_length; set max_length to the horizon")
        super().__post_init__()

    def recipe(self) -> tuple[Use, ...]:
        """Shaping, filter, correction, advantages, surrogate, KL."""
        before = []
        if self.overlong:
            before.append(Use("overlong_shaping", {"max_length": self.max_length, "buffer": self.overlong}))
        if self.dynamic:
            before.append(Use("dynamic_sampling", {"prompts": self.prompts}))
        if self.correction != "none":
            part = {"truncate": "truncated_is", "mask": "masked_is"}[self.correction]
            before.append(Use(part, {"cap": self.cap, "unit": self.correction_unit}))
        if self.kl == "in_score" and self.beta > 0:
            before.append(Use("kl_in_score", {"beta": self.beta}))
        advantage = {
            "group": Use("group_advantages", {"scale": self.scale, "ddof": self.ddof, "eps": self.eps}),
            "rloo": Use("rloo_advantages"),
        }[self.advantage]
        kl = (Use(f"kl_{self.kl}", weight=self.beta),) if self.beta > 0 and self.kl != "in_score" else ()
        return (*before, advantage, Use(self.surrogate, self._clip()), *kl)

    def enough(self, columns: dict[str, Any]) -> bool:
        """With dynamic sampling: ``prompts`` groups have scores that differ."""
        return not self.dynamic or int(informative(columns).sum()) >= self.prompts * self.group_size

    def _clip(self) -> dict[str, Any]:
        if self.surrogate == "reinforce":
            return {}
        if self.surrogate == "cispo":
            return {"ratio_high": 1 + self.eps_high}
        widths = {"eps_low": self.eps_low, "eps_high": self.eps_high}
        return {**widths, "dual": self.dual} if self.surrogate == "ppo_clip" else widths
