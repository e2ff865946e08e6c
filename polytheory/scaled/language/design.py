"""Reward design on a language model (PARL): the policy follows a reward model, which learns from a teacher as it goes.

Lower level: steps of a post-training method under the current reward model, with a KL term of weight beta to the reference.
Upper level, every ``upper_every`` steps: groups of completions of the *current* policy are shown to a teacher, and the reward
model descends `preference_loss` or `utility_loss`, in which the policy's answer to the reward is a covariance over beta
[chakraborty2024]. That covariance is exact where the policy is optimal for the reward; between it and the truth stand the
steps of the lower level.

References: [chakraborty2024] Chakraborty et al., PARL, ICLR 2024. [bradley1952] Bradley and Terry, Rank analysis of
incomplete block designs, Biometrika 39.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key
from polytheory.algorithm import Info
from polytheory.errors import DivergedError, SettingError, UnknownNameError
from polytheory.scaled.alignment.language import bradley_terry_loss, preference_loss, utility_loss
from polytheory.scaled.alignment.upper import teacher
from polytheory.scaled.language.adapters import trainable_copy
from polytheory.scaled.language.finetune import Columns, Finetune, FinetuneState, reads
from polytheory.scaled.language.optimiser import AdamW
from polytheory.scaled.language.reward_model import RewardModel
from polytheory.streams import row_ids, uniforms

TEACHERS = ("choices", "utility")


@dataclass(frozen=True)
class RewardDesign:
    """A reward model stands in the place of the rewards, and learns from a teacher who knows them.

    Fields:
        teacher: "choices" between any two completions of a prompt, drawn by Bradley-Terry from their scores; "utility",
            the scores themselves; "" for no reward model.
        teacher_scale: the first of two completions is chosen with probability ``sigma(teacher_scale (u_0 - u_1))``, > 0.
        response: the policy's answer is part of the gradient; False leaves Bradley-Terry on fresh choices.
        upper_every: steps of the policy to one of the reward model, >= 1; 0 leaves it as ``reward_start`` made it.
        upper_prompts, upper_group: prompts that the teacher sees at once, >= 1, and completions of each: 2, or 3 for choices
            with ``response``.
        reward_start: updates before the first step, >= 0: Bradley-Terry on completions of the policy as it starts.
        reward_step_size, reward_decay: of the reward model's AdamW; some weight decay keeps its scale from growing.

    Raises `SettingError`, `UnknownNameError`.
    """

    teacher: str = ""
    teacher_scale: float = 1.0
    response: bool = True
    upper_every: int = 1
    upper_prompts: int = 16
    upper_group: int = 4
    reward_start: int = 0
    reward_step_size: float = 1e-3
    reward_decay: float = 0.01

    def __post_init__(self) -> None:
        if not self.teacher:
            given = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
            if given:
                raise SettingError(
                    f"{given[0]} without a teacher; set teacher = 'choices' or 'utility', or leave it out"
                )
            return
        if self.teacher not in TEACHERS:
            raise UnknownNameError("teacher", self.teacher, TEACHERS)
        if not (self.teacher_scale > 0 and math.isfinite(self.teacher_scale)):
            raise SettingError(f"teacher_scale = {self.teacher_scale}; it is positive and finite, larger is surer")
        for name, least in (("upper_every", 0), ("upper_prompts", 1), ("reward_start", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least {least}")
        least = 3 if self.teacher == "choices" and self.response else 2
        if self.upper_group < least:
            raise SettingError(
                f"upper_group = {self.upper_group}; a teacher of {self.teacher} needs at least {least} completions of a "
                f"prompt with response = {str(self.response).lower()}"
            )
        if self.teacher == "utility" and (not self.response or self.reward_start):
            raise SettingError(
                "a utility teaches by the policy's response alone; leave response = true and reward_start = 0, or set "
                "teacher = 'choices'"
            )
        if not (self.upper_every or self.reward_start):
            raise SettingError("upper_every = 0 and reward_start = 0; nothing would teach the reward model, set one")
        if not (self.reward_decay >= 0 and math.isfinite(self.reward_decay)):
            raise SettingError(f"reward_decay = {self.reward_decay}; a weight decay is >= 0 and finite")
        _ = self.optimiser  # its own checks

    @property
    def optimiser(self) -> AdamW:
        """How the reward model follows its gradient."""
        return AdamW(self.reward_step_size, weight_decay=self.reward_decay)

    def questions(self, prompts: int) -> int:
        """What the teacher answers about that many groups: pairs, or completions."""
        N = self.upper_group
        return prompts * (N * (N - 1) // 2 if self.teacher == "choices" else N)


@dataclass(eq=False)
class DesignState(FinetuneState):
    """State of both levels.

    Fields: those of `FinetuneState` for the policy; ``reward_model`` and ``reward_optimizer``; ``upper`` updates of the reward
    model; ``labels`` answers of the teacher so far.
    """

    reward_model: Any = None
    reward_optimizer: Any = None
    upper: int = 0
    labels: int = 0


@dataclass(frozen=True, eq=False)
class DesignFinetune(Finetune):
    """`Finetune` under a reward model that learns as it goes; the scores of the access are what its teacher knows.

    Fields:
        method: as in `Finetune`, with a KL term to the reference of weight ``beta`` > 0, in units of the reward.
        design: how the reward model learns.
        reward_model: where it starts, see `reward_model`; copied. None takes a `RewardModel` on the policy's own weights.

    Raises `SettingError`.
    """

    design: RewardDesign = field(default_factory=lambda: RewardDesign("choices"))
    reward_model: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.design.teacher:
            raise SettingError("reward design without a teacher; set teacher = 'choices' or 'utility'")
        name, beta = self.method.name, getattr(self.method, "beta", None)
        if beta is None or ("log_probs_ref" not in reads(self.method) and beta > 0):
            raise SettingError(f"{name} has no KL term to the reference; a reward model goes with grpo or copg")
        if not (beta > 0 and math.isfinite(beta)):
            raise SettingError(
                f"beta = {beta}; without a KL term the best policy jumps with the reward and has no derivative, set beta > 0"
            )
        if getattr(self.method, "kl", "in_score") != "in_score":
            raise SettingError(
                f"kl = {getattr(self.method, 'kl', '')!r}; a reward model counts on the optimum of E[r] - beta KL over whole "
                "completions, set kl = 'in_score'"
            )

    @property
    def beta(self) -> float:
        """Weight of the KL term in the lower level."""
        return float(getattr(self.method, "beta", math.nan))

    def init(self, access: Any, seed: int, replica: int = 0) -> DesignState:
        """The policy's model and the reward model as they start. Raises `SettingError` in several processes."""
        if self.processes.world > 1:
            raise SettingError(f"a reward model learns in one process, launched were {self.processes.world}; start one")
        start = self.reward_model
        model = RewardModel(self.method.policy.model) if start is None else trainable_copy(start)
        own = vars(super().init(access, seed, replica))
        return DesignState(**own, reward_model=model, reward_optimizer=self.design.optimiser.make(model.parameters()))

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """The reward model, where it is its turn; then the policy."""
        told: dict[str, float] = {}
        for _ in range(0 if state.t else self.design.reward_start):
            told = self.teach(state, access, response=False)
        if self.design.upper_every and state.t % self.design.upper_every == 0:
            told = self.teach(state, access, response=self.design.response)
        state, info = super().step(state, access)
        return state, {**info, **told, "labels": float(state.labels)}

    def teach(self, state: DesignState, access: Any, *, response: bool) -> dict[str, float]:
        """One update of the reward model on fresh completions of the policy; what the teacher thought of it before."""
        m, N = self.design.upper_prompts, self.design.upper_group
        key, ids = Key(state.seed, "parl/upper", state.upper), row_ids(state.replica, np.arange(m * N))
        columns = self.completed(state, access, key, state.upper * m, m, N, ids)
        columns["group"] = torch.arange(m, device=columns["mask"].device).repeat_interleave(N)
        columns["answers"] = self.answers(columns["score"], key, ids)
        found = []
        for part in self.passes(columns):
            scores = state.reward_model(part).view(-1, N)
            (self.upper_loss(scores, part["answers"], response=response) * (len(scores) / m)).backward()
            found.append(scores.detach())
        norm = self.design.optimiser.apply(state.reward_optimizer, state.upper)
        loss, agreement = self.before(torch.cat(found), columns["answers"], columns["score"])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(
                f"reward model, update {state.upper}: loss {loss:g}, gradient norm {norm:g}; lower reward_step_size or raise "
                "beta"
            )
        state.upper, state.labels = state.upper + 1, state.labels + self.design.questions(m)
        told = {"upper/loss": loss, "upper/grad_norm": norm}
        return told if agreement is None else {**told, "upper/agreement": agreement}

    def answers(self, u: Float[torch.Tensor, " n"], key: Key, ids: Int[np.ndarray, " n"]) -> torch.Tensor:
        """What the teacher says about completions of scores u: utilities [n], or [n, N] 1 where the row's completion is chosen
        rather than another of its group: one draw a pair, read from both sides; 1/2 between equals."""
        if self.design.teacher == "utility":
            return u.double()
        N = self.design.upper_group
        first = u.double().view(-1, N, 1).expand(-1, -1, N)
        p = teacher(first, first.mT, self.design.teacher_scale)
        draws = uniforms(key.seed, "parl/choices", key.step, torch.as_tensor(ids, device=u.device), N).view(p.shape)
        upper = torch.triu(torch.where(p == 0.5, p, (draws < p).double()), 1)
        return (upper + torch.tril(1 - upper.mT, -1) + torch.eye(N).to(upper) / 2).view(-1, N)

    def upper_loss(
        self, scores: Float[torch.Tensor, "B N"], answers: torch.Tensor, *, response: bool
    ) -> Float[torch.Tensor, ""]:
        """What the reward model descends, a mean over groups; ``answers`` [B N] or [B N, N] as `answers` gives them."""
        B, N = scores.shape
        scores = scores.double()
        if self.design.teacher == "utility":
            return utility_loss(scores, answers.view(B, N), self.beta).mean()
        return preference_loss(scores, answers.view(B, N, N), self.beta, response=response)

    def before(
        self, scores: Float[torch.Tensor, "B N"], answers: torch.Tensor, u: Float[torch.Tensor, " n"]
    ) -> tuple[float, float | None]:
        """Minus the upper level's objective on these completions, and how often the reward model orders two of different true
        score as the teacher does at its surest (a tie counts half); None without such a pair."""
        B, N = scores.shape
        scores, u = scores.double(), u.double().view(B, N)
        loss = (
            -u.mean() if self.design.teacher == "utility" else bradley_terry_loss(scores, answers.view(B, N, N)).mean()
        )
        order = (u[:, :, None] - u[:, None]).sign()
        agree = (1 + order * (scores[:, :, None] - scores[:, None]).sign()) / 2
        differ = order != 0
        return float(loss), float(agree[differ].mean()) if bool(differ.any()) else None

    def _round(self, state: Any, access: Any, i: int) -> Columns:
        """Completions with the reward model's scores; those of the access as ``true_score``."""
        columns = super()._round(state, access, i)
        with torch.no_grad():
            scores = torch.cat([state.reward_model(part) for part in self.passes(columns)])
        return {**columns, "true_score": columns["score"], "score": scores.double()}

    def sample(self, state: Any, access: Any) -> tuple[Columns, dict[str, float]]:
        """As in `Finetune`; ``true_score`` is the mean of the first round."""
        columns, info = super().sample(state, access)
        first = columns["true_score"][: self.method.prompts * self.method.group_size]
        return columns, {**info, "true_score": float(first.double().mean())}
