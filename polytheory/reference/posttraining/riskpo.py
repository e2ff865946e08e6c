"""RiskPO: policy optimisation of a risk measure of verifiable rewards, over bundles of prompts.

Setting: B prompts form a bundle; sample j of the bundle takes response ``xi_i(j)`` of each prompt i, with independent
permutations xi_i of the G responses, and scores ``R_j = sum_i r_{i, xi_i(j)}``. The mean of R is replaced by a functional
that weights the lower tail of its law F, ``MVaR = (1 + w) int_0^alpha F^{-1} + int_alpha^beta F^{-1}`` [ren2025, sec. 4].

Update: ``A_j = -(1 + w)(q_alpha - R_j)^+ + g(R_j, q_alpha, q_beta)`` with tracked quantiles, divided by the deviation of the
bundle's scores, shared among the responses of the sample; then the clipped surrogate of the geometric mean of token ratios.

Guarantee: where alpha and beta are not on jumps of F and the quantiles are right, ``E[A grad log pi] = grad MVaR``, for
continuous F [ren2025, Theorem 1] and for discrete F alike. The deviation, the sharing and the clip bend it.

Deviations from the released code: prompts that do not fill their bundles and unequal numbers of responses are refused
(there responses drop out of the samples); deviations of at most ``least_deviation`` divide by 1; shares are bounded; crossed
quantiles are read in order; the first step uses quantiles of all bundle scores, not of each bundle; no 1e-6 is added to
alpha and beta - alpha.

Settings by name: main experiment (hard mathematics) the defaults; easy mathematics ``beta=0.9, credit="std", natural=True,
group_size=5``; the released loss ``surrogate="ppo_clip", normalisation="token_mean", measure="mvar_released",
shuffle=False``; ablations ``measure="cvar"``, ``measure="mean", baseline="bundle"`` and ``measure="seeking"``.

References: [ren2025] Ren et al., RiskPO: Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training,
arXiv 2510.00911; code RTkenny/RiskPO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.advantages import groups
from polytheory.reference.posttraining.base import PARTS
from polytheory.reference.posttraining.bundles import check_credit
from polytheory.reference.posttraining.bundles import form_bundles as form_bundles
from polytheory.reference.posttraining.bundles import share_credit as share_credit
from polytheory.reference.posttraining.composition import Composition, Use
from polytheory.reference.posttraining.losses import check_clip
from polytheory.reference.posttraining.losses import gspo as gspo
from polytheory.reference.posttraining.losses import ppo_clip as ppo_clip
from polytheory.reference.posttraining.risk import (
    CONVENTIONS,
    LEVELS,
    check_measure,
    level_index,
    sample_quantile,
    track,
    tracked,
    weight,
)
from polytheory.reference.posttraining.softmax import TabularSoftmax as TabularSoftmax
from polytheory.streams import uniforms

Columns = dict[str, Any]
QUANTILES = ("track", "batch", "mix")
BASELINES = ("none", "tracked", "bundle")
SURROGATES = ("gspo", "ppo_clip")


@PARTS.part(
    Kind.ADVANTAGE, reads=("bundle", "bundle_sample", "bundle_score"), writes=("bundle_advantages",), unit=Unit.GROUP,
    source="ren2025, Theorem 1 and Algorithm 1",
)  # fmt: skip
def risk_advantages(
    columns: Columns,
    state: dict[str, Any] | None,
    *,
    measure: str = "mvar",
    alpha: float = 0.2,
    beta: float = 0.8,
    w: float = 3.5,
    w_mix: float = 1.5,
    natural: bool = False,
    quantiles: str = "track",
    convention: str = "linear",
    lr_q: float = 0.1,
    baseline: str = "none",
    standardise: bool = True,
    least_deviation: float = 1e-3,
    eps: float = 1e-6,
) -> tuple[Columns, dict[str, Any]]:
    """Advantages of bundle samples from their scores, with quantiles that are tracked from step to step.

    Args:
        columns: ``bundle``, ``bundle_sample``, ``bundle_score`` [n], see `form_bundles`. Writes ``bundle_advantages`` [n],
            equal on the rows of a sample.
        state: None at first, then ``{"quantiles": [19]}``. A step uses the quantiles from *before* its scores were seen; the
            first step those of all its bundle scores.
        measure, alpha, beta, w, w_mix, natural: see `risk.weight`.
        quantiles: "track" the tracked ones; "batch" the sample quantiles of each bundle; "mix" the mean of both.
        convention: of sample quantiles, see `risk.sample_quantile`.
        lr_q: step size of the tracker, > 0, in units of the score.
        baseline: subtracted from the weights: "none"; "tracked" the trapezoid sum over levels of the weights of the tracked
            quantiles; "bundle" the mean weight of the bundle's samples.
        standardise: divide by the Bessel-corrected deviation of the bundle's scores plus ``eps``, by 1 where it is at most
            ``least_deviation``.

    Raises `SettingError`, `UnknownNameError`, and `ColumnError` for a bundle of one sample that is to be standardised.
    """
    check_risk(measure, alpha, beta, w, w_mix, quantiles, convention, lr_q, baseline)
    bundle, sample, score = need(columns, "bundle", "bundle_sample", "bundle_score")
    _, first, place = np.unique(sample, return_index=True, return_inverse=True)
    score, bundle = np.asarray(score, dtype=float)[first], bundle[first]
    kind: dict[str, Any] = {
        "measure": measure,
        "alpha": alpha,
        "beta": beta,
        "w": w,
        "w_mix": w_mix,
        "natural": natural,
    }
    q = np.array([sample_quantile(score, s, convention) for s in LEVELS]) if state is None else state["quantiles"]
    advantages = np.zeros(len(score))
    for rows in groups(bundle, least=2 if standardise else 1):
        own = score[rows]
        a, b = (quantile(q, own, s, quantiles, convention) if measure != "mean" else 0.0 for s in (alpha, beta))
        found = weight(own, a, b, **kind)
        if baseline == "tracked":
            found = found - trapezoid(weight(np.sort(q), a, b, **kind))
        elif baseline == "bundle":
            found = found - found.mean()
        if standardise:
            spread = np.std(own, ddof=1)
            found = found / (spread + eps if spread > least_deviation else 1.0)
        advantages[rows] = found
    # only now: the quantiles of a step must not have seen its scores
    after = q if state is None else track(q, score, lr_q=lr_q)
    return {**columns, "bundle_advantages": advantages[place]}, {"quantiles": after}


def quantile(
    q: Float[np.ndarray, " 19"], scores: Float[np.ndarray, " m"], level: float, quantiles: str, convention: str
) -> float:
    """The quantile at ``level``: tracked, of the scores of a bundle ("batch"), or the mean of the two ("mix")."""
    if quantiles == "track":
        return tracked(q, level)
    own = sample_quantile(scores, level, convention)
    return own if quantiles == "batch" else (tracked(q, level) + own) / 2


def trapezoid(x: Float[np.ndarray, " 19"]) -> float:
    """Integral over the tracked levels of a function of the level."""
    return float(((x[1:] + x[:-1]) / 2 * np.diff(LEVELS)).sum())


def check_risk(
    measure: str, alpha: float, beta: float, w: float, w_mix: float, quantiles: str, convention: str, lr_q: float,
    baseline: str,
) -> None:  # fmt: skip
    """Raise `UnknownNameError` or `SettingError` for settings of `risk_advantages` out of range."""
    check_measure(measure, alpha, beta, w, w_mix)
    for kind, name, allowed in (
        ("source of quantiles", quantiles, QUANTILES),
        ("convention of quantiles", convention, CONVENTIONS),
        ("baseline", baseline, BASELINES),
    ):
        if name not in allowed:
            raise UnknownNameError(kind, name, allowed)
    if not 0 < lr_q < np.inf:
        raise SettingError(
            f"lr_q = {lr_q}; the tracker's step size is positive and finite, the released code takes 0.1"
        )
    if quantiles != "batch" and measure != "mean":
        level_index(alpha)
        level_index(beta)


@dataclass(frozen=True, eq=False)
class RiskPo(Composition):
    """RiskPO; further fields as in `Composition`.

    Fields:
        prompts: multiple of ``bundle_size``; consecutive prompts form a bundle. The paper 512 a step.
        group_size: responses of a prompt, G >= 2; the paper 10.
        bundle_size: prompts of a bundle, B >= 1; the paper 5.
        shuffle: take each prompt's responses in random order (the paper); False in the order sampled (the released code).
        measure: "mvar" (the paper), "mvar_released", "rvar", "cvar", "mean" or "seeking", see `risk.weight`.
        alpha, beta: levels, 0 <= alpha < beta <= 1; the paper 0.2 and 0.8, easy mathematics 0.2 and 0.9.
        w: extra weight of the lower tail in "mvar", >= 0; 3.5 is proportional to the released ``w_mix`` at these levels.
        w_mix: weight of the tail in "mvar_released" and "seeking", >= 0; the released code 1.5.
        natural: keep the constant of g; the released main experiment drops it, easy mathematics keeps it.
        quantiles: "track" (the paper), "batch" or "mix"; convention: "linear" (the released code) or "inf".
        lr_q: step size of the tracked quantiles in units of the score, > 0; the released code 0.1.
        baseline: "none", "tracked" or "bundle", see `risk_advantages`.
        standardise: divide by the deviation of the bundle's scores (the released code does).
        credit: "sum_mean" (main experiment), "std" (easy mathematics), "uniform" or "score", see `share_credit`.
        largest_share: bound on the shares of "sum_mean", > 1; inf for none (the released code).
        least_deviation: deviations up to this one divide by 1, >= 0. eps: added to deviations, >= 0.
        surrogate: "gspo", geometric mean of ratios (the paper), or "ppo_clip" (the released code).
        eps_low, eps_high: clip widths, >= 0.

    Raises `SettingError`, `UnknownNameError`.
    """

    prompts: int = 5
    group_size: int = 10
    bundle_size: int = 5
    shuffle: bool = True
    measure: str = "mvar"
    alpha: float = 0.2
    beta: float = 0.8
    w: float = 3.5
    w_mix: float = 1.5
    natural: bool = False
    quantiles: str = "track"
    convention: str = "linear"
    lr_q: float = 0.1
    baseline: str = "none"
    standardise: bool = True
    credit: str = "sum_mean"
    largest_share: float = 5.0
    least_deviation: float = 1e-3
    eps: float = 1e-6
    surrogate: str = "gspo"
    eps_low: float = 0.2
    eps_high: float = 0.2

    name: ClassVar[str] = "riskpo"
    GIVEN: ClassVar[tuple[str, ...]] = (*Composition.GIVEN, "bundle", "shuffle")

    def __post_init__(self) -> None:
        if self.bundle_size < 1 or self.prompts < 1 or self.prompts % self.bundle_size:
            raise SettingError(
                f"prompts = {self.prompts} do not fill bundles of bundle_size = {self.bundle_size}; take a multiple of it"
            )
        if self.group_size < 2:
            raise SettingError(
                f"group_size = {self.group_size}; deviations and means of a prompt need at least 2 responses"
            )
        if self.surrogate not in SURROGATES:
            raise UnknownNameError("surrogate", self.surrogate, SURROGATES)
        check_risk(
            self.measure,
            self.alpha,
            self.beta,
            self.w,
            self.w_mix,
            self.quantiles,
            self.convention,
            self.lr_q,
            self.baseline,
        )
        check_clip(self.eps_low, self.eps_high, None)
        check_credit(self.credit, self.largest_share, self.least_deviation, self.eps)
        super().__post_init__()

    def recipe(self) -> tuple[Use, ...]:
        """Bundles, their advantages, credit, surrogate."""
        names = (
            "measure", "alpha", "beta", "w", "w_mix", "natural", "quantiles", "convention", "lr_q", "baseline", "standardise",
            "least_deviation", "eps",
        )  # fmt: skip
        credit = {name: getattr(self, name) for name in ("credit", "largest_share", "least_deviation", "eps")}
        return (
            Use("form_bundles", {"size": self.bundle_size}),
            Use("risk_advantages", {name: getattr(self, name) for name in names}, stateful=True),
            Use("share_credit", {**credit, "size": self.bundle_size}),
            Use(self.surrogate, {"eps_low": self.eps_low, "eps_high": self.eps_high}),
        )

    def annotated(
        self, columns: Columns, key: Key, row_id: Int[np.ndarray, " n"], place: Int[np.ndarray, " n"]
    ) -> Columns:
        """``bundle``, and the order ``shuffle`` in which a prompt's responses go to its samples."""
        shuffle = uniforms(key.seed, f"{key.purpose}/shuffle", key.step, row_id, 1)[:, 0] if self.shuffle else place
        return {**columns, "bundle": columns["group"] // self.bundle_size, "shuffle": shuffle.astype(float)}
