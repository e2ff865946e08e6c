"""Negative-aware fine-tuning: maximum likelihood on right *and* wrong answers, through an implicit policy of the wrong ones.

Setting: K answers a of each question q from the old policy, verdicts r in {0, 1} (or probabilities in [0, 1]), and
``r_hat`` their mean over the K answers. The old policy splits into ``r_hat pi+ + (1 - r_hat) pi-``, its laws given a right and
a wrong answer. A model of pi+ therefore is a model of pi-, ``(pi_old - r_hat pi) / (1 - r_hat)``, and wrong answers
train it: with ``R = pi / pi_old`` of a token the loss is [chen2025, eq. 10]

    -w(q) [ r log R + (1 - r) log max_v((1 - r_hat R) / (1 - r_hat), eps) ].

``max_v`` bounds the value from below and keeps the gradient of its argument. No critic, no reference policy.

References: [chen2025] H. Chen et al., Bridging Supervised Learning and Reinforcement Learning in Math Reasoning,
arXiv 2505.18116.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.advantages import group_advantages as group_advantages
from polytheory.scaled.posttraining.advantages import group_index, group_total
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.composition import Composition, Use
from polytheory.scaled.posttraining.losses import bounded_exp, token_log_ratio
from polytheory.scaled.posttraining.losses import ppo_clip as ppo_clip
from polytheory.scaled.posttraining.rewards import keep_rows
from polytheory.scaled.posttraining.softmax import TabularSoftmax as TabularSoftmax

Columns = dict[str, Any]
WEIGHTS = ("complement", "root_odds", "one")
NEGATIVES = ("implicit", "none", "contrast")


def prompt_weight(r_hat: Any, name: str, sqrt: Callable[[Any], Any]) -> Any:
    """``w(q)``: "complement" ``1 - r_hat``, "root_odds" ``sqrt((1 - r_hat) / r_hat)``, "one"; operators only."""
    if name == "complement":
        return 1 - r_hat
    return sqrt((1 - r_hat) / r_hat) if name == "root_odds" else 1 + 0 * r_hat


def negative_ratio(ratio: Any, r_hat: Any) -> Any:
    """The implicit policy of wrong answers over the old one, ``(1 - r_hat R) / (1 - r_hat)``; operators only."""
    return (1 - r_hat * ratio) / (1 - r_hat)


def branch_sum(verdict: Any, good: Any, bad: Any) -> Any:
    """``-(r good + (1 - r) bad)``: what right and wrong answers contribute; operators only."""
    return -(verdict * good + (1 - verdict) * bad)


def max_v(x: Float[torch.Tensor, "..."], eps: float) -> Float[torch.Tensor, "..."]:
    """``max(x, eps)`` in value, with the gradient of ``x`` on both sides of eps.

    The printed ``stopgrad(max(x, eps) - x) + x`` loses eps to rounding where x is far below it, and its logarithm is -inf.
    """
    return x.detach().clamp(min=eps) + (x - x.detach())


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("score", "group"), writes=("verdict", "r_hat"), unit=Unit.GROUP,
    source="chen2025, sec. 3.1",
)  # fmt: skip
def group_verdicts(columns: Columns, *, soft: bool = False) -> Columns:
    """Scores [n] as ``verdict`` [n], and the mean of every group as ``r_hat`` [n]; goes before any filter.

    Raises `ColumnError` for a score that is not 0 or 1 (``soft``: outside of [0, 1]) and for a group of one.
    """
    score, group = need(columns, "score", "group")
    verdict = score.detach().double()
    check_verdicts(verdict, soft)
    index, size = group_index(group, least=2)
    return {**columns, "verdict": verdict, "r_hat": group_total(verdict, index) / size}


@PARTS.part(Kind.FILTER, reads=("group", "r_hat"), unit=Unit.GROUP, source="chen2025, Algorithm 1")
def mixed_groups(columns: Columns, *, prompts: int | None = None) -> Columns:
    """Only rows with ``0 < r_hat < 1``, of the first ``prompts`` such groups (in order of group id; None: of all)."""
    return keep_rows(columns, is_mixed(columns, prompts))


def is_mixed(columns: Columns, prompts: int | None = None) -> Bool[torch.Tensor, " n"]:
    """True on the rows that `mixed_groups` keeps."""
    r_hat, group = need(columns, "r_hat", "group")
    keep = (r_hat > 0) & (r_hat < 1)
    return keep if prompts is None else keep & torch.isin(group, group[keep].unique()[:prompts])


@PARTS.part(
    Kind.ADVANTAGE, reads=("verdict", "r_hat"), writes=("advantages",), unit=Unit.SEQUENCE, source="chen2025, sec. 4"
)
def pack_verdicts(columns: Columns) -> Columns:
    """Verdict and ``r_hat`` as one number ``A = r - r_hat`` [n], for engines whose loss is given advantages only.

    Raises `ColumnError` for soft verdicts, which one number cannot hold, and ``r_hat`` outside of (0, 1).
    """
    verdict, r_hat = checked(columns)
    check_verdicts(verdict, False)
    return {**columns, "advantages": verdict - r_hat}


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("mask", "advantages"), writes=("verdict", "r_hat"), unit=Unit.SEQUENCE,
    source="chen2025, sec. 4",
)  # fmt: skip
def unpack_verdicts(columns: Columns) -> Columns:
    """What `pack_verdicts` packed: ``r = 1[A > 0]``, ``r_hat = 1 - A`` or ``-A``.

    Advantages are [n], or [n, t] as engines spread them over the trained tokens (the first one is read). Raises
    `ColumnError` unless every ``0 < |A| < 1``.
    """
    mask, a = need(columns, "mask", "advantages")
    a = a.detach().double()
    a = a if a.ndim == 1 else a.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))[:, 0]
    wrong = ~((a.abs() > 0) & (a.abs() < 1))
    if bool(wrong.any()):
        i = int(wrong.to(torch.int8).argmax())
        raise ColumnError(f"advantage {float(a[i])} of row {i} is no packed verdict; 0 < |A| < 1")
    return {**columns, "verdict": (a > 0).double(), "r_hat": torch.where(a > 0, 1 - a, -a)}


@PARTS.part(
    Kind.LOSS, reads=("mask", "verdict", "r_hat", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="chen2025, eq. 10",
)  # fmt: skip
def nft(
    columns: Columns, *, weight: str = "complement", eps: float = 1.0, negatives: str = "implicit"
) -> Float[torch.Tensor, "n t"]:
    """``-w [r log R + (1 - r) log max_v((1 - r_hat R) / (1 - r_hat), eps)]`` of every token; ``verdict``, ``r_hat`` [n].

    Settings and errors as in the reference; at least float32 inside.
    """
    check_objective(weight, eps, negatives)
    mask, now = need(columns, "mask", "log_probs")
    wide = torch.promote_types(now.dtype, torch.float32)  # bfloat16 takes an r_hat of 0.999 for 1
    verdict, r_hat = (x.to(wide)[:, None] for x in checked(columns))
    gap = token_log_ratio(columns, "log_probs_old").to(wide)
    if negatives == "implicit":
        bad = max_v(negative_ratio(bounded_exp(gap), r_hat), eps).log()
    else:
        bad = -gap if negatives == "contrast" else torch.zeros_like(gap)
    w = prompt_weight(r_hat, weight, torch.sqrt)
    return torch.where(mask, w * branch_sum(verdict, gap, bad), torch.zeros_like(gap)).to(now.dtype)


def checked(columns: Columns) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
    """The columns ``verdict`` and ``r_hat``. Raises `ColumnError` outside of [0, 1] and (0, 1)."""
    verdict, r_hat = (x.detach().double() for x in need(columns, "verdict", "r_hat"))
    check_verdicts(verdict, True)
    wrong = ~((r_hat > 0) & (r_hat < 1))
    if bool(wrong.any()):
        i = int(wrong.to(torch.int8).argmax())
        raise ColumnError(
            f"r_hat = {float(r_hat[i])} of row {i}; it must lie in (0, 1), put mixed_groups before the loss"
        )
    return verdict, r_hat


def check_verdicts(verdict: Float[torch.Tensor, " n"], soft: bool) -> None:
    """Raise `ColumnError` unless all are 0 or 1, or with ``soft`` in [0, 1]."""
    wrong = ~((verdict >= 0) & (verdict <= 1) if soft else (verdict == 0) | (verdict == 1))
    if bool(wrong.any()):
        i, allowed = int(wrong.to(torch.int8).argmax()), "in [0, 1]" if soft else "0 or 1 (soft verdicts: in [0, 1])"
        raise ColumnError(
            f"score {float(verdict[i])} of row {i} is no verdict; it must be {allowed}, threshold or rescale it"
        )


def check_objective(weight: str, eps: float, negatives: str) -> None:
    """Raise `UnknownNameError` or `SettingError` for settings of `nft` out of range."""
    if weight not in WEIGHTS:
        raise UnknownNameError("prompt weight", weight, WEIGHTS)
    if negatives not in NEGATIVES:
        raise UnknownNameError("use of negatives", negatives, NEGATIVES)
    if not 0 < eps <= 1:
        raise SettingError(f"eps = {eps}; it must lie in (0, 1], the paper takes 1")


@dataclass(frozen=True, eq=False)
class Nft(Composition):
    """Negative-aware fine-tuning; further fields as in `Composition`.

    Fields:
        group_size: answers of a question, K >= 2; the paper 16. updates: gradient steps on them, the paper 16.
        normalisation: the paper's is "token_mean".
        weight, eps, negatives: see `nft`. Rejection-sampling fine-tuning: ``negatives="none", weight="one"``.
        soft: scores are probabilities in [0, 1] instead of verdicts 0 or 1.
        refresh: steps after which the sampling policy becomes the current one, >= 1; 1 in the paper. Between two
            refreshes all data and ratios belong to the same old policy.
        packed: hand verdict and ``r_hat`` to the loss as ``A = r - r_hat``; not for soft verdicts.

    Groups without a right or without a wrong answer are dropped, after ``r_hat`` was taken, and up to ``rounds`` rounds are
    sampled until ``prompts`` groups are left; a step without any such group changes nothing. Raises `SettingError`,
    `UnknownNameError`.
    """

    group_size: int = 16
    normalisation: str = "token_mean"
    weight: str = "complement"
    eps: float = 1.0
    negatives: str = "implicit"
    soft: bool = False
    refresh: int = 1
    packed: bool = False

    name: ClassVar[str] = "nft"

    def __post_init__(self) -> None:
        check_objective(self.weight, self.eps, self.negatives)
        if self.group_size < 2:
            raise SettingError(
                f"group_size = {self.group_size}; both verdicts must have room in a group, take at least 2"
            )
        if self.refresh < 1:
            raise SettingError(f"refresh = {self.refresh}; it must be at least 1")
        if self.packed and self.soft:
            raise SettingError("packed = True cannot carry soft verdicts: A = r - r_hat is invertible for 0 and 1 only")
        super().__post_init__()

    def recipe(self) -> tuple[Use, ...]:
        """Verdicts, filter, loss."""
        packing = (Use("pack_verdicts"), Use("unpack_verdicts")) if self.packed else ()
        loss = Use("nft", {"weight": self.weight, "eps": self.eps, "negatives": self.negatives})
        return (
            Use("group_verdicts", {"soft": self.soft}), Use("mixed_groups", {"prompts": self.prompts}), *packing, loss
        )  # fmt: skip

    def enough(self, columns: Columns) -> bool:
        """``prompts`` groups have ``0 < r_hat < 1``."""
        return int(is_mixed(group_verdicts(columns, soft=self.soft)).sum()) >= self.prompts * self.group_size

    def behaviour(self, theta_old: Any, theta: Any, t: int) -> Any:
        """The newest parameters after every ``refresh`` steps, else the old ones."""
        return theta if (t + 1) % self.refresh == 0 else theta_old
