"""DR-RPO: distributionally robust, reference-regularised policy optimisation with linear function approximation.

**A reconstruction.** Of [gu2025] only the abstract was at hand. What stands here follows from it, from the group's sister
papers and from our own derivation, and is checked as it stands. The constants of the paper's bonus, the rate of its
theorem and its settings are not known to us and do not appear.

Setting: episodes of horizon H in a *nominal* linear MDP whose features and factors are points of the simplex; the policy is
judged under the worst factors (`regularised`), less ``eta KL`` to a reference policy.

Update, after every episode, for h = H .. 1, from all data (``Lambda = lam I + sum phi phi^T``)::

    nu_h   = worst value of every factor, estimated by ridge regressions of dual functions of V_{h+1}   (`factor_duals`)
    Q_h    = clip(r_h + phi . nu_h + beta sum_i phi_i sqrt((Lambda_h^{-1})_ii), 0, H - h + 1)
    pi_h   ~ reference exp(Q_h / eta),      V_h = eta log E_reference exp(Q_h / eta)

``beta`` is ``bonus_scale``. ``eta = 0`` is greedy: value-based robust LSVI (`RobustLsvi`; DR-LSVI-UCB in [liu2024online]).
Radius 0 and ``eta = 0`` is LSVI-UCB, with the bonus of one ridge problem per factor, at least as wide as its ellipsoid.

Guarantee (derived): where ``|phi . (nu_hat - nu)| <= bonus`` at all (h, s, a), values are optimistic, ``V_hat_1 >= V*_1``, and
``V*_1 - V^pi_1 <= 2 sum_h E[bonus_h]`` under pi and the factors that are *worst for pi*. Data come from the nominal factors:
without coverage of the worst case by the nominal one the bonus need not shrink where it counts.

References: [gu2025] Gu, He, Liu and Xu, Policy Regularized Distributionally Robust Markov Decision Processes with Linear
Function Approximation, arXiv 2510.14246 (abstract). [liu2024robust] Liu and Xu, Minimax Optimal and Computationally Efficient
Algorithms for Distributionally Robust Offline Reinforcement Learning, NeurIPS 2024. [liu2024online] Liu and Xu,
Distributionally Robust Off-Dynamics Reinforcement Learning, AISTATS 2024, arXiv 2402.15399. [jin2020] Jin, Yang, Wang and
Jordan, Provably Efficient Reinforcement Learning with Linear Function Approximation, COLT 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.exploration.episodic import check_spec, value_caps
from polytheory.exploration.robust import DrRpoSettings
from polytheory.models.factor_ambiguity import check_fail_state, factor_features, radii_of, reference_of
from polytheory.reference.exploration.actors import StagedPolicy, mirror_step
from polytheory.reference.exploration.critics import Seen, gram
from polytheory.reference.exploration.episodic import EpisodicLearner, EpisodicState, staged_rewards
from polytheory.reference.robust.factor_duals import factor_values as factor_values
from polytheory.reference.robust.mixtures import worst_mixture as worst_mixture
from polytheory.reference.robust.regularised import plan as plan
from polytheory.reference.robust.regularised import soft_policy as soft_policy
from polytheory.reference.robust.regularised import soft_value as soft_value
from polytheory.reference.robust.regularised import suboptimality as suboptimality
from polytheory.reference.robust.regularised import worst_value as worst_value

Table = Float[np.ndarray, "H S A"]


def factor_bonus(inverse: Float[np.ndarray, "d d"], phi: Float[np.ndarray, "*k d"]) -> Float[np.ndarray, "*k"]:
    """``sum_i phi_i sqrt((Lambda^{-1})_{ii})``: every factor is a ridge problem of its own, and their errors add up."""
    return phi @ np.sqrt(np.diagonal(inverse))


def estimated_factors(
    n: Any, N: Any, phi: Float[np.ndarray, "S A d"], lam: float
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d S1"]]:
    """``Lambda^{-1}`` and ``W = Lambda^{-1} sum phi 1{s'}`` of one stage; the last column is the end of an episode before its
    horizon, where nothing more is paid."""
    S, A, d = phi.shape
    flat, ended = phi.reshape(S * A, d), (n - N.sum(-1)).reshape(S * A, 1)
    inverse = np.linalg.inv(gram(n, phi, lam))
    return inverse, inverse @ (flat.T @ np.concatenate([N.reshape(S * A, S), ended], -1))


def robust_critic(
    seen: tuple[Any, Any, Any], phi: Float[np.ndarray, "S A d"], r: Table | None, radius: Float[np.ndarray, "H d"],
    caps: Float[np.ndarray, " H"], log_ref: Table, *, kind: str, eta: float, beta: float, lam: float = 1.0,
    centred: bool = False, fail_state: int | None = None,
) -> Table:  # fmt: skip
    """``Q_h = clip(r_h + phi . nu_h + beta * bonus, 0, caps_h)``, backward over the stages; ``r`` None estimates the rewards
    too. A negative ``beta`` is pessimism (offline data)."""
    data = Seen(*seen)
    f, v = np.zeros(data.n.shape), np.zeros(data.n.shape[1])
    for h in reversed(range(len(f))):
        inverse, W = estimated_factors(data.n[h], data.N[h], phi, lam)
        known = phi @ (inverse @ np.einsum("sa,sad->d", data.R[h], phi)) if r is None else r[h]
        nu = np.zeros(phi.shape[-1])
        if h < len(f) - 1:  # after the last stage nothing is left to regress on
            low = 0.0 if W[:, -1].any() else float(v.min())
            nu = factor_values(W, np.append(v, 0.0), radius[h], kind=kind, top=float(caps[0]), low=low, centred=centred)
        f[h] = np.clip(known + phi @ nu + beta * factor_bonus(inverse, phi), 0, caps[h])
        if fail_state is not None:
            f[h, fail_state] = 0.0
        v = soft_value(f[h], log_ref[h], eta)
    return f


@dataclass(frozen=True, eq=False)
class DrRpo(DrRpoSettings, EpisodicLearner):
    """DR-RPO. Fields as in `DrRpoSettings`."""

    def init(self, access: Any, seed: int, replica: int = 0) -> EpisodicState:
        """The critic of the offline data (or of none), and its policy."""
        check_fail_state(self.fail_state, check_spec(access.spec, None)[1])
        start = super().init(access, seed, replica)
        start.log_weights = self.act(start, access.spec, True)
        return start

    def critic(self, state: EpisodicState, spec: Spec) -> Table:
        """The robust critic of all data."""
        H, S, A = check_spec(spec, None)
        phi = factor_features(self.phi, S, A)
        return robust_critic(
            state.seen, phi, staged_rewards(spec), radii_of(self.kind, self.radius, H, phi.shape[-1]),
            value_caps(spec, self.value_bound), self.log_reference(state.log_weights), kind=self.kind, eta=self.eta,
            beta=-self.bonus_scale if self.pessimistic else self.bonus_scale, lam=self.lam, centred=self.centred,
            fail_state=self.fail_state,
        )  # fmt: skip

    def log_reference(self, log_weights: Table) -> Table:
        """Logs of the reference policy: the given one, or the policy that was played last."""
        log_ref = np.log(reference_of(self.reference, *log_weights.shape))
        if not self.moving_reference:
            return log_ref
        return log_ref + log_weights - soft_value(log_weights, log_ref, 1.0)[..., None]

    def gauge(self, seen: Seen) -> Float[np.ndarray, " H"]:
        """Nothing is tested."""
        return np.zeros(len(seen.n))

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return np.asarray(True)

    def act(self, state: EpisodicState, spec: Spec, due: bool) -> Table:
        """``Q / eta``, the scores relative to the fixed reference; a moving one adds them up."""
        if self.eta == 0:
            return state.log_weights
        return mirror_step(state.log_weights if self.moving_reference else 0.0, state.f, 1 / self.eta)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """``reference exp(Q / eta)``; without regularisation the first of the best actions."""
        if self.eta == 0:
            return StagedPolicy(state.f, soft=False)
        return StagedPolicy(np.log(reference_of(self.reference, *state.f.shape)) + state.log_weights)


@dataclass(frozen=True, eq=False)
class RobustLsvi(DrRpo):
    """Value-based robust least-squares value iteration: DR-RPO without a reference policy. Fields as in `DrRpo`."""

    eta: float = 0.0
