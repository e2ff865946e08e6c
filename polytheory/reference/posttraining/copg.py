"""Contrastive policy gradient: any scored completions, from any policies, one squared loss of pairs.

Setting: prompts, for each of them completions ``y`` from *any* distributions (their densities are never used), a score R of
every completion, a reference policy. Objective ``J(pi) = E_pi[R] - beta KL(pi || ref)``. With
``R_beta(y) = R(y) - beta log(pi(y) / ref(y))`` over whole sequences, and for a pair (y, y') the gain ``R(y) - R(y')`` and the
margin ``D = log(pi(y) / ref(y)) - log(pi(y') / ref(y'))``:

Loss of a pair: ``(R(y) - R(y') - beta D)^2 / (2 beta)``, which is up to a constant minus
``l = (R_{beta/2}(y) - R_{beta/2}(y')) D``. The *differentiated* l holds beta / 2, its gradient
``(R_beta(y) - R_beta(y')) (grad log pi(y) - grad log pi(y'))`` holds beta.

Loss of k completions: ``sum_{i > j} (..)^2 / (2 beta (k - 1))``; its gradient is that of ``-sum_i A_i log pi(y_i)`` with the
constant ``A_i = R_beta(y_i) - mean_{j != i} R_beta(y_j)``: leave-one-out REINFORCE with the KL in the reward, off policy.

Guarantee: where the sampling distributions have the support of ref, the only minimiser is ``pi* = ref exp(R / beta) / Z``
[fletberliac2024, Theorem 1], with ``J(pi*) = beta log Z``. For completions of the policy itself the mean gradient of l is
``2 grad J`` [Prop. 1]. With scores +-1/4 the loss is IPO's [Prop. 3].

Nothing is clipped, weighted by ratios or divided by lengths, and ties stay: they pull back to the reference.

References: [fletberliac2024] Flet-Berliac et al., Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a
supervised-friendly fashion, EMNLP 2024, arXiv 2406.19185. [cohere2025] Command A: An Enterprise-Ready Large Language Model,
arXiv 2504.00698 (k completions; ping-pong of offline and online).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.advantages import group_advantages as group_advantages
from polytheory.reference.posttraining.advantages import groups
from polytheory.reference.posttraining.advantages import rloo_advantages as rloo_advantages
from polytheory.reference.posttraining.base import PARTS, Terms
from polytheory.reference.posttraining.composition import Composition, Use
from polytheory.reference.posttraining.kl import kl_in_score as kl_in_score
from polytheory.reference.posttraining.losses import reinforce as reinforce
from polytheory.reference.posttraining.losses import token_log_ratio
from polytheory.reference.posttraining.pairs import check_pairs, check_positive, pair_margin, pull_pairs
from polytheory.reference.posttraining.pairs import ipo as ipo
from polytheory.reference.posttraining.softmax import TabularSoftmax as TabularSoftmax
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
    """Every pair of completions of a group once, in the order of rows: ``pairs`` [m, 2]. No pair is dropped, ties least.

    Raises `ColumnError` for a group of one.
    """
    (group,) = need(columns, "group")
    found = [rows[np.stack(np.triu_indices(len(rows), 1), axis=1)] for rows in groups(group, least=2)]
    return {**columns, "pairs": np.concatenate(found)}


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
def copg(columns: Columns, *, beta: float = 0.06, form: str = "square", scale: str = "policy_gradient") -> Terms:
    """The contrastive loss of every pair [m]; which row of a pair comes first does not matter.

    Args:
        beta: strength of the KL regularisation, > 0, in units of the score; the paper's best 0.06, swept over 0.01 to 1.
        form: "square", or "objective" for -l, which differs by ``gain^2 / (2 beta)`` and has the same gradient.
        scale: "policy_gradient", as above; "command_a" the plain square ``(gain - beta D)^2``, 2 beta times larger.

    Raises `SettingError`, `UnknownNameError`, and `ColumnError` for scores that are not finite.
    """
    factor = scale_factor(scale, beta)
    gain, margin = pair_gain(columns), pair_margin(columns)
    if form not in FORMS[:2]:
        raise UnknownNameError("form of the pair loss", form, FORMS[:2])
    value = pair_square(gain, margin, beta) if form == "square" else -pair_objective(gain, margin, beta)
    slope = -factor * regularised(gain, margin, beta)
    return Terms(factor * value, lambda w: pull_pairs(columns, w * slope))


@PARTS.part(
    Kind.LOSS, reads=("mask", "group", "score", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.GROUP,
    source="fletberliac2024, Prop. 2; cohere2025",
)  # fmt: skip
def copg_detached(columns: Columns, *, beta: float = 0.06, scale: str = "policy_gradient") -> Terms:
    """``-A_i log pi(y_i)`` of every completion [n], ``A_i = R_beta(y_i) - mean_{j != i} R_beta(y_j)`` held fixed.

    The sum over a group of k has the gradient of its `copg` terms summed over pairs and divided by k - 1. The value itself
    means nothing. Settings and errors as there; a group of one is refused.
    """
    factor = scale_factor(scale, beta)
    mask, group = need(columns, "mask", "group")
    a = factor * rloo_advantages({"score": regularised_scores(columns, beta=beta), "group": group})["advantages"]
    return _held(columns, mask, a)


@PARTS.part(
    Kind.LOSS, reads=("mask", "score", "baseline", "log_probs", "log_probs_ref"), now=("log_probs",),
    unit=Unit.SEQUENCE, source="fletberliac2024, sec. 5 (policy gradient off policy)",
)  # fmt: skip
def baseline_reinforce(columns: Columns, *, beta: float = 0.06) -> Terms:
    """``-(R_beta(y) - b) log pi(y)`` of every completion [n], the first factor held fixed, b the column ``baseline`` [n].

    For comparison: off policy it is right only for ``b = E_pi[R_beta]``, which pi* makes constant; ``b = E_pi[R]`` and
    ``b = 0`` end elsewhere.
    """
    mask, baseline = need(columns, "mask", "baseline")
    return _held(columns, mask, regularised_scores(columns, beta=beta) - baseline)


@PARTS.part(
    Kind.MONITOR, reads=("mask", "pairs", "score", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="fletberliac2024",
)  # fmt: skip
def margin_report(columns: Columns, *, beta: float = 0.06) -> dict[str, float]:
    """How the margins D of the pairs are spread, and how far the pairs are from the optimum.

    ``margin_rms``, ``margin_p90``, ``margin_max`` of |D|; ``residual_rms`` of ``gain - beta D``, 0 at pi* on any pairs;
    ``ties``, the share of pairs with equal scores.
    """
    gain, margin = pair_gain(columns), pair_margin(columns)
    size, residual = np.abs(margin), regularised(gain, margin, beta)
    return {
        "margin_rms": float(np.sqrt((margin**2).mean())), "margin_p90": float(np.quantile(size, 0.9)),
        "margin_max": float(size.max()), "residual_rms": float(np.sqrt((residual**2).mean())),
        "ties": float((gain == 0).mean()),
    }  # fmt: skip


def regularised_scores(columns: Columns, *, beta: float) -> Float[np.ndarray, " n"]:
    """``R_beta`` of every completion under the current policy. Raises `SettingError`, `ColumnError`."""
    check_positive(beta=beta)
    return regularised(finite_scores(columns), token_log_ratio(columns, "log_probs_ref").sum(axis=1), beta)


def pair_gain(columns: Columns) -> Float[np.ndarray, " m"]:
    """``R(y) - R(y')`` of every pair. Raises `ColumnError` for scores that are not finite or rows that do not exist."""
    (pairs,) = need(columns, "pairs")
    score = finite_scores(columns)
    check_pairs(pairs, len(score))
    return score[pairs[:, 0]] - score[pairs[:, 1]]


def finite_scores(columns: Columns) -> Float[np.ndarray, " n"]:
    """Scores in float64. Raises `ColumnError` for one that is NaN or infinite."""
    (score,) = need(columns, "score")
    score = np.asarray(score, dtype=float)
    if not np.isfinite(score).all():
        raise ColumnError(f"score of row {int(np.argmin(np.isfinite(score)))} is not finite; drop or repair the row")
    return score


def scale_factor(scale: str, beta: float) -> float:
    """1, or 2 beta for the plain square. Raises `UnknownNameError`, and `SettingError` unless 0 < beta < inf."""
    check_positive(beta=beta)
    if scale not in SCALES:
        raise UnknownNameError("scale of the contrastive loss", scale, SCALES)
    return 2 * beta if scale == "command_a" else 1.0


def _held(columns: Columns, mask: np.ndarray, a: Float[np.ndarray, " n"]) -> Terms:
    (now,) = need(columns, "log_probs")
    total = np.where(mask, now, 0.0).sum(axis=1)
    return Terms(-a * total, lambda w: {"log_probs": np.where(mask, -(w * a)[:, None], 0.0)})


@dataclass(frozen=True, eq=False)
class Copg(Composition):
    """Contrastive policy gradient; further fields as in `Composition`, of which ``normalisation`` has no say here.

    Fields:
        group_size: completions of a prompt, k >= 2; the loss is the mean over groups of the k-sample loss.
        beta: strength of the KL regularisation, > 0, in units of the score; the paper's best 0.06.
        form: "square", "objective" or "detached"; all have one gradient.
        scale: "policy_gradient" divides by 2 beta (k - 1), "command_a" by k - 1.
        centre: subtract the mean score of every group first; changes nothing but rounding.
        sampling: "online" from the policy; "offline" from ``behaviours`` in turn; "mixed" every other completion from the
            policy; "ping_pong" ``period`` steps offline, then ``period`` online, and so on.
        behaviours: fixed policies to sample from off policy (mu1, mu2, ..), never asked for densities by the loss; none
            means the reference policy. period: >= 1.
        refresh: steps after which the policy that samples online follows, >= 1; None keeps the first one, frozen.

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

    def sources(self, t: int) -> Int[np.ndarray, " k"]:
        """Who samples each completion of a group in step t: -1 the policy, i >= 0 the i-th behaviour policy."""
        place = np.arange(self.group_size)
        number = max(1, len(self.behaviours))
        if self.sampling == "online" or (self.sampling == "ping_pong" and t // self.period % 2):
            return np.full(self.group_size, -1)
        return np.where(place % 2 == 0, -1, place // 2 % number) if self.sampling == "mixed" else place % number

    def sample_round(self, state: Any, access: Any, i: int) -> Columns:
        """Completions of round ``i`` from the step's `sources`, in the order of their rows."""
        n = self.prompts * self.group_size
        rows, source = i * n + np.arange(n), np.tile(self.sources(state.t), self.prompts)
        behaviours = self.behaviours or (self.policy,)
        found, place = [], []
        for k in np.unique(source):
            own = rows[source == k]
            sampler = self.policy.with_theta(state.theta_old) if k < 0 else behaviours[k]
            requests = Requests(row_ids(state.replica, own), access.spec.horizon)
            traj = access.rollouts(sampler, requests, Key(state.seed, f"{self.name}/completions", state.t))
            found.append({
                "states": traj.states, "actions": traj.actions, "mask": traj.mask, "score": traj.rewards.sum(axis=1),
                "group": own // self.group_size, "log_probs_sampler": traj.log_probs_sampler,
            })  # fmt: skip
            place.append(own)
        order = np.argsort(np.concatenate(place))
        return {name: np.concatenate([part[name] for part in found])[order] for name in found[0]}

    def behaviour(self, theta_old: Any, theta: Any, t: int) -> Any:
        """The newest parameters after every ``refresh`` steps, the old ones in between."""
        return theta if self.refresh is not None and (t + 1) % self.refresh == 0 else theta_old

    def report(self, columns: Columns, theta: Float[np.ndarray, " d"]) -> Info:
        """`margin_report` of all pairs before the step."""
        return margin_report({**all_pairs(columns), "log_probs": self.log_probs(columns, theta)}, beta=self.beta)
