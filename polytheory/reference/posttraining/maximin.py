"""The adversarial problem behind RPO on finitely many responses, solved from both sides, and what its theory promises.

``f(pi, r) = eta (E_pi r - E_base r - beta KL(pi || ref)) + L_D(r)`` is concave in the policy and convex in the reward. On the
box ``[0, R]^A`` of rewards `minimax` solves ``min_r max_pi f`` and `maximin` solves ``max_pi min_r f``; `minimise_rpo`
minimises the RPO loss over policies. All three agree where the box does not bind [liu2024, Theorem 4.2].

References: [liu2024] Liu et al., Provably Mitigating Overoptimization in RLHF, NeurIPS 2024, arXiv 2405.16436.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.errors import NotSolvedError, SettingError

Vector = Float[np.ndarray, " A"]
Oracle = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Preferences:
    """Comparisons of A responses to one prompt.

    Fields:
        wins: [A, A] how often the row beat the column, >= 0, at least one comparison. ref: [A] reference policy, > 0.
        base: [A] baseline policy. beta: > 0, in units of the reward. eta: >= 0.

    Raises `SettingError`.
    """

    wins: Float[np.ndarray, "A A"]
    ref: Vector
    base: Vector
    beta: float
    eta: float

    def __post_init__(self) -> None:
        if not (self.wins >= 0).all() or self.wins.sum() <= 0:
            raise SettingError("wins must be counts >= 0 with at least one comparison")
        if not (0 < self.beta < np.inf and 0 <= self.eta < np.inf):
            raise SettingError(f"beta = {self.beta}, eta = {self.eta}; beta > 0 and eta >= 0, both finite")
        outside = (self.base > 0) & ~(self.ref > 0)
        if outside.any():
            raise SettingError(
                f"response {int(np.argmax(outside))} has base > 0 but ref = 0: the RPO loss is infinite; take a reference "
                "that covers the baseline"
            )
        if not (self.ref > 0).all():
            raise SettingError(f"response {int(np.argmin(self.ref))} has ref = 0; leave it out of the problem")


def preference_loss(r: Vector, wins: Float[np.ndarray, "A A"]) -> float:
    """``L_D``: mean Bradley-Terry negative log-likelihood of the comparisons under the reward r."""
    return float((wins * np.logaddexp(0.0, r[None, :] - r[:, None])).sum() / wins.sum())


def log_partition(r: Vector, ref: Vector, beta: float) -> float:
    """``log Z_r = log E_ref exp(r / beta)``; ``beta log Z_r = max_pi E_pi r - beta KL(pi || ref)`` [Lemma 4.1]."""
    x = np.log(ref) + r / beta
    return float(x.max() + np.log(np.exp(x - x.max()).sum()))


def gibbs(r: Vector, ref: Vector, beta: float) -> Vector:
    """The policy ``ref exp(r / beta) / Z_r`` that attains the maximum; the same for ``r + c``."""
    x = np.log(ref) + r / beta
    x = np.exp(x - x.max())
    return x / x.sum()


def adversarial(pi: Vector, r: Vector, data: Preferences) -> float:
    """``f(pi, r)``, for policies that are positive everywhere."""
    kl = float(pi @ (np.log(pi) - np.log(data.ref)))
    return float(data.eta * ((pi - data.base) @ r - data.beta * kl)) + preference_loss(r, data.wins)


def best_response_value(r: Vector, data: Preferences) -> float:
    """``max_pi f(pi, r) = eta (beta log Z_r - E_base r) + L_D(r)``."""
    regularised = data.beta * log_partition(r, data.ref, data.beta) - float(data.base @ r)
    return data.eta * regularised + preference_loss(r, data.wins)


def population_rpo(pi: Vector, data: Preferences) -> float:
    """The RPO loss of a policy: ``L_DPO - eta beta E_base log pi`` [eq. 4.8]."""
    log_pi = np.log(pi)
    h = log_pi - np.log(data.ref)
    margins = data.beta * (h[:, None] - h[None, :])
    dpo = float((data.wins * np.logaddexp(0.0, -margins)).sum() / data.wins.sum())
    return dpo - data.eta * data.beta * float(data.base @ log_pi)


def minimise_rpo(data: Preferences) -> Vector:
    """The policy of least RPO loss, by Newton's method on its logits.

    Raises `NotSolvedError` where it is at infinity: a response that never wins, say, and no SFT term.
    """

    def oracle(logits: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pi = gibbs(logits, np.ones_like(logits), 1.0)
        h = logits - np.log(data.ref)
        slope, curve = _likelihood_slopes(data.beta * h, data.wins)
        weight = data.eta * data.beta
        return (
            population_rpo(pi, data),
            data.beta * slope + weight * (data.base.sum() * pi - data.base),
            data.beta**2 * curve + weight * data.base.sum() * (np.diag(pi) - np.outer(pi, pi)),
        )

    logits = _newton(oracle, np.log(data.ref), -np.inf, np.inf)
    return gibbs(logits, np.ones_like(logits), 1.0)


def minimax(data: Preferences, *, reward_max: float = 4.0) -> tuple[Vector, Vector, float]:
    """``min_r max_pi f``: the policy, the reward [0, reward_max]^A and the value. Raises `NotSolvedError`."""

    def oracle(r: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        pi = gibbs(r, data.ref, data.beta)
        slope, curve = _likelihood_slopes(r, data.wins)
        spread = (np.diag(pi) - np.outer(pi, pi)) / data.beta
        return best_response_value(r, data), slope + data.eta * (pi - data.base), curve + data.eta * spread

    r = _newton(oracle, np.full(len(data.ref), reward_max / 2), 0.0, reward_max)
    return gibbs(r, data.ref, data.beta), r, best_response_value(r, data)


def maximin(data: Preferences, *, reward_max: float = 4.0) -> tuple[Vector, Vector, float]:
    """``max_pi min_r f``: the policy, the worst reward against it and the value.

    Ascent on the logits (BFGS) with the gradient at the worst reward [Danskin]; rewards in [0, reward_max]^A.
    Raises `SettingError` for eta = 0, where every policy is optimal, and `NotSolvedError`.
    """
    from scipy.optimize import minimize

    if data.eta == 0:
        raise SettingError("eta = 0 leaves the policy out of the maximin problem; give eta > 0")
    start = np.full(len(data.ref), reward_max / 2)

    def worst(pi: np.ndarray) -> Vector:
        def oracle(r: np.ndarray) -> tuple[float, np.ndarray]:
            return adversarial(pi, r, data), _likelihood_slopes(r, data.wins)[0] + data.eta * (pi - data.base)

        box = [(0.0, reward_max)] * len(start)
        options = {"ftol": 0.0, "gtol": 1e-12, "maxiter": 2000}
        return minimize(oracle, start, jac=True, method="L-BFGS-B", bounds=box, options=options).x

    def descent(logits: np.ndarray) -> tuple[float, np.ndarray]:
        pi = gibbs(logits, np.ones_like(logits), 1.0)
        r = worst(pi)
        gain = data.eta * (r - data.beta * (np.log(pi) - np.log(data.ref)))
        return -adversarial(pi, r, data), -pi * (gain - pi @ gain)

    # f is of size 1, so that its sixteen digits end line searches at gradients of about 1e-8
    found = minimize(descent, np.log(data.ref), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    if np.abs(found.jac).max() > 1e-6:
        raise NotSolvedError(
            f"ascent on the policy stopped with a slope of {np.abs(found.jac).max():.1g}; is eta tiny?"
        )
    pi = gibbs(found.x, np.ones_like(found.x), 1.0)
    r = worst(pi)
    return pi, r, adversarial(pi, r, data)


def theorem_eta(reward_max: float, n: int, log_ratio: float) -> float:
    """eta of Theorem 5.3: ``(1 + e^R)^{-2} sqrt(24 log(N_cov / delta) / N)``; ``log_ratio = log(N_cov / delta)``."""
    return float((1 + np.exp(reward_max)) ** -2 * np.sqrt(24 * log_ratio / n))


def theorem_beta(n: int) -> float:
    """beta of Theorem 5.3: ``N^{-1/2}``."""
    return float(n**-0.5)


def gap_bound(reward_max: float, n: int, coverage: float, kl: float, log_ratio: float) -> float:
    """Theorem 5.3: with probability at least 1 - delta no covered policy is better by more than this, unregularised.

    ``[sqrt(6) (1 + e^R)^2 (C^2 + 1) iota + 4 E KL(pi || ref)] / (4 sqrt N)``, ``iota = sqrt(log(N_cov / delta))``.
    """
    statistical = np.sqrt(6) * (1 + np.exp(reward_max)) ** 2 * (coverage**2 + 1) * np.sqrt(log_ratio)
    return float((statistical + 4 * kl) / (4 * np.sqrt(n)))


def log_covering(responses: int, reward_max: float, radius: float) -> float:
    """Log of the covering number of ``[0, R]^A`` in the sup norm; the theorem's radius is ``1 / (6 (1 + e^R) N)``."""
    return float(responses * np.log(max(1.0, np.ceil(reward_max / (2 * radius)))))


def coverage(pi: Vector, base: Vector, law: Float[np.ndarray, "A A"]) -> float:
    """C of Theorem 5.3 for a reward class with the true reward inside it: ``sup_d (pi - base) d / |d|_data``.

    ``law`` [A, A] is the law of compared pairs and ``|d|_data^2 = E (d_i - d_j)^2``. Infinite where the comparisons do not
    tell pi from base. Where the true reward is on the edge of the class this is an upper bound.
    """
    both = law + law.T
    gram = np.diag(both.sum(axis=1)) - both
    direction = pi - base
    worst = np.linalg.pinv(gram, hermitian=True) @ direction
    # what the pseudo-inverse cannot reach is not covered; a residual of rounding is
    if np.abs(gram @ worst - direction).max() > 1e-9:
        return float("inf")
    return float(np.sqrt(max(0.0, direction @ worst)))


def _likelihood_slopes(r: Vector, wins: Float[np.ndarray, "A A"]) -> tuple[Vector, Float[np.ndarray, "A A"]]:
    """Gradient and Hessian of `preference_loss`."""
    lose = np.exp(-np.logaddexp(0.0, r[:, None] - r[None, :]))  # sigmoid(r_j - r_i)
    pull = wins * lose / wins.sum()
    curve = wins * lose * (1 - lose) / wins.sum()
    both = curve + curve.T
    return pull.sum(axis=0) - pull.sum(axis=1), np.diag(both.sum(axis=1)) - both


def _newton(oracle: Oracle, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Minimise a smooth convex function on a box by projected Newton steps with backtracking [bertsekas1982].

    Ends where the projected gradient is at rounding: below 1e-15, or below 1e-9 and falling no more.
    Raises `NotSolvedError` after 500 steps or beyond |x| = 1e6.
    """
    last = (np.inf, x)
    for _ in range(500):
        value, slope, curve = oracle(x)
        free = ~(((x <= low) & (slope > 0)) | ((x >= high) & (slope < 0)))
        rest = np.abs(slope[free]).max(initial=0.0)
        if rest < 1e-15:
            return x
        if last[0] <= min(rest, 1e-9):  # rounding is all that is left
            return last[1]
        last = (rest, x)
        step = np.zeros_like(x)
        # constants are a flat direction of the likelihood: a ridge that goes with the gradient bends the step and no more
        ridge = max(1e-12, 1e-3 * rest) * np.eye(free.sum())
        step[free] = -np.linalg.solve(curve[np.ix_(free, free)] + ridge, slope[free])
        size = 1.0
        while size > 1e-10:
            ahead = np.clip(x + size * step, low, high)
            there, slope_there, _ = oracle(ahead)
            if there <= value + 1e-4 * (slope @ (ahead - x)) - 1e-17:
                break
            # close to the minimum values have no digits left, slopes still do
            if there <= value + 1e-13 * (1 + abs(value)) and np.abs(slope_there[free]).max(initial=0.0) < rest / 2:
                break
            size /= 2
        else:
            ahead = np.clip(x + step, low, high)  # the value has no digits left, the slope may
            slope_ahead = oracle(ahead)[1]
            free = ~(((ahead <= low) & (slope_ahead > 0)) | ((ahead >= high) & (slope_ahead < 0)))
            better = np.abs(slope_ahead[free]).max(initial=0.0) < rest
            if rest < 1e-9:
                return ahead if better else x
            if not better:
                raise NotSolvedError("the line search of Newton's method failed; rewards or weights are badly scaled")
        x = ahead
        if np.abs(x).max() > 1e6:
            break
    if last[0] < 1e-9:
        return last[1]
    raise NotSolvedError("the minimum is at infinity; every compared response needs wins and losses, or eta > 0")
