"""Contrastive policy gradient in torch: any scored completions, from any policies, one squared loss of pairs.

With ``R_beta(y) = R(y) - beta log(pi(y) / ref(y))`` over whole sequences and, for a pair, the gain ``R(y) - R(y')`` and the
margin ``D = log(pi(y) / ref(y)) - log(pi(y') / ref(y'))``, the loss of a pair is ``(R(y) - R(y') - beta D)^2 / (2 beta)``; see
the reference for its other forms and what is guaranteed. In a preference trainer the columns chosen and rejected become two
completions with their scores, in any order.

Sums over tokens, and what follows from them, have at least float32; terms return in the dtype of the log-probs.

References: [fletberliac2024] Flet-Berliac et al., Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a
supervised-friendly fashion, EMNLP 2024, arXiv 2406.19185. [cohere2025] Command A: An Enterprise-Ready Large Language Model,
arXiv 2504.00698 (k completions; ping-pong of offline and online).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.advantages import group_advantages as group_advantages
from polytheory.scaled.posttraining.advantages import group_index
from polytheory.scaled.posttraining.advantages import rloo_advantages as rloo_advantages
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.composition import Composition, Use
from polytheory.scaled.posttraining.kl import kl_in_score as kl_in_score
from polytheory.scaled.posttraining.losses import reinforce as reinforce
from polytheory.scaled.posttraining.losses import token_log_ratio
from polytheory.scaled.posttraining.pairs import check_pairs, check_positive
from polytheory.scaled.posttraining.pairs import ipo as ipo
from polytheory.scaled.posttraining.softmax import TabularSoftmax as TabularSoftmax
from polytheory.streams import row_ids

Columns = dict[str, Any]
FORMS = ("square", "objective", "detached")
SCALES = ("policy_gradient", "command_a")
SAMPLING = ("online", "offline", "mixed", "ping_pong")


def regularised(score: Any, log_ratio: Any, beta: Any) -> Any:
    """``R_beta = R - beta log(pi / ref)``, or its difference within a pair; operators only."""
    return score - beta * log_ratio


def pair_square(gain: Any, margin: Any, beta: Any) -> Any:
    """``(R(y) - R(y') - beta D)^2 / (2 beta)``, to be minimised; operators only."""
    gap = regularised(gain, margin, beta)
    return gap * gap / (2 * beta)


def pair_objective(gain: Any, margin: Any, beta: Any) -> Any:
    """``l = (R_{beta/2}(y) - R_{beta/2}(y')) D``, to be maximised; with beta for beta / 2 the KL would count twice."""
    return regularised(gain, margin, beta / 2) * margin


@PARTS.part(Kind.SAMPLER, reads=("group",), writes=("pairs",), unit=Unit.PAIR, source="fletberliac2024; cohere2025")
def all_pairs(columns: Columns) -> Columns:
    """Every pair of completions of a group once: ``pairs`` [m, 2]; groups of one size are handled together.

    Raises `ColumnError` for a group of one.
    """
    (group,) = need(columns, "group")
    index, size = group_index(group, least=2)
    order, found = index.argsort(stable=True), []
    for k in size.unique().long().tolist():
        rows = order[size[order] == k].view(-1, k)
        found.append(rows[:, torch.triu_indices(k, k, 1, device=rows.device).T].reshape(-1, 2))
    return {**columns, "pairs": torch.cat(found)}


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("score", "group"), writes=("score",), unit=Unit.SEQUENCE, source="fletberliac2024"
)
def centre_scores(columns: Columns) -> Columns:
    """Scores less the mean of their group: only differences enter the loss, so nothing changes but rounding."""
    return {**columns, "score": group_advantages(columns, scale="none")["advantages"]}


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "score", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="fletberliac2024, Theorem 1; cohere2025 (command_a)",
)  # fmt: skip
def copg(
    columns: Columns, *, beta: float = 0.06, form: str = "square", scale: str = "policy_gradient"
) -> Float[torch.Tensor, " m"]:
    """The contrastive loss of every pair [m]; settings and errors as in the reference.

    D is differentiated: held fixed there would be nothing left to learn from.
    """
    factor = scale_factor(scale, beta)
    gain, margin = pair_gain(columns), pair_gap(columns)
    if form not in FORMS[:2]:
        raise UnknownNameError("form of the pair loss", form, FORMS[:2])
    gain = gain.to(margin.dtype)
    value = pair_square(gain, margin, beta) if form == "square" else -pair_objective(gain, margin, beta)
    return (factor * value).to(columns["log_probs"].dtype)


@PARTS.part(
    Kind.LOSS, reads=("mask", "group", "score", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.GROUP,
    source="fletberliac2024, Prop. 2; cohere2025",
)  # fmt: skip
def copg_detached(columns: Columns, *, beta: float = 0.06, scale: str = "policy_gradient") -> Float[torch.Tensor, " n"]:
    """``-A_i log pi(y_i)`` of every completion [n], ``A_i = R_beta(y_i) - mean_{j != i} R_beta(y_j)`` held fixed.

    The sum over a group of k has the gradient of its `copg` terms summed over pairs and divided by k - 1. The value itself
    means nothing. Settings and errors as there; a group of one is refused.
    """
    factor = scale_factor(scale, beta)
    (group,) = need(columns, "group")
    score = regularised_scores(columns, beta=beta).detach()
    return _held(columns, factor * rloo_advantages({"score": score, "group": group})["advantages"])


@PARTS.part(
    Kind.LOSS, reads=("mask", "score", "baseline", "log_probs", "log_probs_ref"), now=("log_probs",),
    unit=Unit.SEQUENCE, source="fletberliac2024, sec. 5 (policy gradient off policy)",
)  # fmt: skip
def baseline_reinforce(columns: Columns, *, beta: float = 0.06) -> Float[torch.Tensor, " n"]:
    """``-(R_beta(y) - b) log pi(y)`` of every completion [n], the first factor held fixed, b the column ``baseline`` [n].

    For comparison: off policy it is right only for ``b = E_pi[R_beta]``, see the reference.
    """
    (baseline,) = need(columns, "baseline")
    score = regularised_scores(columns, beta=beta).detach()
    return _held(columns, score - baseline.detach().to(score.dtype))


@PARTS.part(
    Kind.MONITOR, reads=("mask", "pairs", "score", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="fletberliac2024",
)  # fmt: skip
def margin_report(columns: Columns, *, beta: float = 0.06) -> dict[str, float]:
    """How the margins D of the pairs are spread, and how far the pairs are from the optimum; names as in the reference."""
    gain, margin = pair_gain(columns), pair_gap(columns).detach().double()
    size, residual = margin.abs(), regularised(gain, margin, beta)
    return {
        "margin_rms": float((margin**2).mean().sqrt()), "margin_p90": float(np.quantile(size.numpy(force=True), 0.9)),
        "margin_max": float(size.max()), "residual_rms": float((residual**2).mean().sqrt()),
        "ties": float((gain == 0).double().mean()),
    }  # fmt: skip


def regularised_scores(columns: Columns, *, beta: float) -> Float[torch.Tensor, " n"]:
    """``R_beta`` of every completion under the current policy. Raises `SettingError`, `ColumnError`."""
    check_positive(beta=beta)
    gap = sequence_gap(columns)
    return regularised(finite_scores(columns).to(gap.dtype), gap, beta)


def pair_gap(columns: Columns) -> Float[torch.Tensor, " m"]:
    """D of every pair. Raises `ColumnError` for a pair of rows that do not exist."""
    (pairs,) = need(columns, "pairs")
    gap = sequence_gap(columns)
    check_pairs(pairs, len(gap))
    return gap[pairs[:, 0]] - gap[pairs[:, 1]]


def pair_gain(columns: Columns) -> Float[torch.Tensor, " m"]:
    """``R(y) - R(y')`` of every pair. Raises `ColumnError` for scores that are not finite."""
    (pairs,) = need(columns, "pairs")
    score = finite_scores(columns)
    check_pairs(pairs, len(score))
    return score[pairs[:, 0]] - score[pairs[:, 1]]


def sequence_gap(columns: Columns) -> Float[torch.Tensor, " n"]:
    """``log pi(y) - log ref(y)`` of every completion, summed over tokens in float32 or more."""
    (now,) = need(columns, "log_probs")
    wide = now.to(torch.promote_types(now.dtype, torch.float32))
    return token_log_ratio({**columns, "log_probs": wide}, "log_probs_ref").sum(1)


def finite_scores(columns: Columns) -> Float[torch.Tensor, " n"]:
    """Scores in float64. Raises `ColumnError` for one that is NaN or infinite."""
    (score,) = need(columns, "score")
    score = score.detach().double()
    if not bool(score.isfinite().all()):
        raise ColumnError(
            f"score of row {int((~score.isfinite()).int().argmax())} is not finite; drop or repair the row"
        )
    return score


def scale_factor(scale: str, beta: float) -> float:
    """1, or 2 beta for the plain square. Raises `UnknownNameError`, and `SettingError` unless 0 < beta < inf."""
    check_positive(beta=beta)
    if scale not in SCALES:
        raise UnknownNameError("scale of the contrastive loss", scale, SCALES)
    return 2 * beta if scale == "command_a" else 1.0


def _held(columns: Columns, a: Float[torch.Tensor, " n"]) -> Float[torch.Tensor, " n"]:
    mask, now = need(columns, "mask", "log_probs")
    wide = now.to(torch.promote_types(now.dtype, torch.float32))
    total = torch.where(mask, wide, torch.zeros_like(wide)).sum(1)
    return (-a.detach().to(wide.dtype) * total).to(now.dtype)


@dataclass(frozen=True, eq=False)
class Copg(Composition):
    """Contrastive policy gradient; fields as in the reference, ``behaviours`` being policies of this room.

    Raises `SettingError`, `UnknownNameError`.
    """

    group_size: int = 2
    beta: float = 0.06
    form: str = "square"
    scale: str = "policy_gradient"
    centre: bool = False
    sampling: str = "online"
    behaviours: tuple[Any, ...] = ()
    period: int = 1
    refresh: int | None = 1

    name: ClassVar[str] = "copg"

    def __post_init__(self) -> None:
        for kind, allowed in (("form", FORMS), ("scale", SCALES), ("sampling", SAMPLING)):
            if getattr(self, kind) not in allowed:
                raise UnknownNameError(kind, getattr(self, kind), allowed)
        check_positive(beta=self.beta)
        if self.group_size < 2:
            raise SettingError(f"group_size = {self.group_size}; a contrast needs at least 2 completions of a prompt")
        if self.period < 1 or (self.refresh is not None and self.refresh < 1):
            raise SettingError(f"period = {self.period}, refresh = {self.refresh}; both count steps, at least 1")
        super().__post_init__()

    def recipe(self) -> tuple[Use, ...]:
        """Centring, pairs, loss. The means over pairs or rows become means over groups of sums over k - 1."""
        before = (Use("centre_scores"),) if self.centre else ()
        settings = {"beta": self.beta, "scale": self.scale}
        if self.form == "detached":
            return (*before, Use("copg_detached", settings, weight=float(self.group_size)))
        loss = Use("copg", {**settings, "form": self.form}, weight=self.group_size / 2)
        return (*before, Use("all_pairs"), loss)

    @property
    def samples_itself(self) -> bool:
        """True for "online"."""
        return self.sampling == "online"

    def sources(self, t: int) -> Int[np.ndarray, " k"]:
        """Who samples each completion of a group in step t: -1 the policy, i >= 0 the i-th behaviour policy."""
        place = np.arange(self.group_size)
        number = max(1, len(self.behaviours))
        if self.sampling == "online" or (self.sampling == "ping_pong" and t // self.period % 2):
            return np.full(self.group_size, -1)
        return np.where(place % 2 == 0, -1, place // 2 % number) if self.sampling == "mixed" else place % number

    def sample_round(self, state: Any, access: Any, i: int) -> Columns:
        """Completions of round ``i`` from the step's `sources`; replica-major, in the order of their rows."""
        n, R = self.prompts * self.group_size, access.replicas
        rows, source = i * n + np.arange(n), np.tile(self.sources(state.t), self.prompts)
        behaviours = self.behaviours or (self.policy,)
        found, place = [], []
        for k in np.unique(source):
            own = rows[source == k]
            sampler = self.policy.with_theta(state.theta_old) if k < 0 else behaviours[k]
            ids = row_ids(state.replica.numpy(force=True).repeat(len(own)), np.tile(own, R))
            key = Key(state.seed, f"{self.name}/completions", state.t)
            traj = access.rollouts(sampler, Requests(ids, access.spec.horizon), key)
            group = torch.from_numpy(np.tile(own // self.group_size, R)).to(traj.mask.device)
            found.append({
                "states": traj.states, "actions": traj.actions, "mask": traj.mask, "score": traj.rewards.sum(1),
                "group": group, "log_probs_sampler": traj.log_probs_sampler,
            })  # fmt: skip
            place.append(own)
        order = torch.from_numpy(np.argsort(np.concatenate(place))).to(found[0]["mask"].device)

        def joined(name: str) -> torch.Tensor:
            pieces = [part[name].view(R, -1, *part[name].shape[1:]) for part in found]
            return torch.cat(pieces, dim=1)[:, order].flatten(0, 1)

        return {name: joined(name) for name in found[0]}

    def behaviour(self, theta_old: Any, theta: Any, t: int) -> Any:
        """The newest parameters after every ``refresh`` steps, the old ones in between."""
        return theta if self.refresh is not None and (t + 1) % self.refresh == 0 else theta_old

    def report(self, replicas: Sequence[Columns], theta: Float[torch.Tensor, "R d"]) -> Info:
        """`margin_report` of all pairs of each replica before the step."""
        with torch.no_grad():
            now = [{**all_pairs(x), "log_probs": self.log_probs(x, theta[i : i + 1])} for i, x in enumerate(replicas)]
        reports = [margin_report(columns, beta=self.beta) for columns in now]
        return {name: np.array([own[name] for own in reports]) for name in reports[0]}
