"""Claims about the trajectory estimators and the upper step made of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Online
from polytheory.proofs_check.alignment import oracles
from polytheory.proofs_check.alignment.breaks import (
    FLIPPED_OUTER,
    NO_CURVED,
    NO_DISCOUNT,
    NO_ENTROPY_PART,
    NO_OUTER,
    ONLY_OWN_STEP,
    times,
)
from polytheory.proofs_check.alignment.instances import Case, coin, three_state, two_layers
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.policy_gradient.oracles import SECOND, along, gradient
from polytheory.reference.policy_gradient.exact import enumerate_trajectories
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.trajectories import Trajectories

PAPER = "chakraborty2024"


@dataclass(frozen=True, eq=False)
class Cut:
    """A case, logits theta [S A], and a cut-off."""

    case: Case
    theta: Float[np.ndarray, " d"]
    steps: int

    def policy(self, room: Room) -> Any:
        """The room's own policy."""
        S, A = self.case.world.r.shape
        return room.part("TabularSoftmax")(room.inward(room.batch(self.theta)), S, A)

    def trajectories(self) -> tuple[np.ndarray, Trajectories]:
        """Every trajectory with its probability."""
        S, A = self.case.world.r.shape
        return enumerate_trajectories(self.case.model, TabularSoftmax(self.theta, S, A), self.steps)

    def regularised(self, features: Any = None) -> Any:
        """``theta -> V`` over the first steps; with ``features``, their returns without entropy."""
        case, shape = self.case, self.case.world.r.shape

        def V(flat: Any) -> Any:
            log_pi = oracles.log_softmax(flat.reshape(shape))
            r = case.features @ case.nu - case.tau * log_pi if features is None else features
            return oracles.truncated_return(case.world, log_pi, r, self.steps)

        return V


def cuts() -> list[Cut]:
    """Worked cases at some logits: cut short, and ending early."""
    return [
        Cut(case, np.sin(1.0 + np.arange(case.world.r.size)), steps)
        for case, steps in ((three_state(), 2), (two_layers(), 3), (coin(), 2))
    ]


def _curvatures(cut: Cut, room: Room) -> tuple[np.ndarray, np.ndarray]:
    """Means of the Hessian estimates and of those of ``-tau F_x``, column by column."""
    (p, traj), case, policy = cut.trajectories(), cut.case, cut.policy(room)
    options = {"gamma": case.world.gamma, "tau": case.tau}
    rho, eye = room.parts.regularised_rewards(policy, traj, case.features @ case.nu, case.tau), np.eye(cut.theta.size)
    hessian = [p @ room.parts.lower_hvp(policy, traj, rho, e, **options) for e in eye]
    fisher = [p @ room.parts.entropy_part(policy, traj, e, **options) for e in eye]
    return np.stack(hessian, axis=1), np.stack(fisher, axis=1)


@claim(
    method="parl", source=f"{PAPER}, trajectory forms, with the outer product; shen2019", level=Level.PROPERTY,
    statement="the trajectory estimates of gradient, Hessian-vector products, mixed derivative and upper gradient have the "
    "derivatives of the cut objective as means: the outer product of scores belongs to the Hessian",
    worked=cuts,
    breaks=[NO_OUTER, FLIPPED_OUTER, NO_CURVED, NO_ENTROPY_PART, NO_DISCOUNT, ONLY_OWN_STEP],
)  # fmt: skip
def trajectory_estimates_are_unbiased(cut: Cut, room: Room) -> Margin:
    (p, traj), case, policy = cut.trajectories(), cut.case, cut.policy(room)
    gamma, u = case.world.gamma, np.cos(np.arange(cut.theta.size, dtype=float))
    rho = room.parts.regularised_rewards(policy, traj, case.features @ case.nu, case.tau)
    slope = p @ room.parts.lower_gradient(policy, traj, rho, gamma=gamma)
    mixed = p @ room.parts.mixed_product(policy, traj, case.features, u, gamma=gamma)
    true = np.array([oracles.complex_step(lambda x, k=k: cut.regularised(case.features[..., k])(x), cut.theta) @ u
                     for k in range(case.nu.size)])  # fmt: skip
    returns = room.parts.returns_along(traj, traj.rewards, gamma=gamma)
    upper = p @ room.parts.sampled_upper_gradient(policy, traj, returns)
    V = cut.regularised()
    hvp = p @ room.parts.lower_hvp(policy, traj, rho, u, gamma=gamma, tau=case.tau)
    return Margin.worst([
        Margin.equal(slope, gradient(V, cut.theta), oracles.ROUNDING * case.size),
        Margin.equal(hvp, along(V, cut.theta, u), SECOND * case.size),
        Margin.equal(mixed, true, oracles.ROUNDING * case.size),
        Margin.equal(upper, gradient(cut.regularised(case.world.r), cut.theta), oracles.ROUNDING * case.size),
    ])  # fmt: skip


@claim(
    method="parl", source=f"{PAPER}, hypergradient from trajectories", level=Level.PROPERTY,
    statement="where episodes end, the enumerated means of the estimators at the optimum give the derivative of G through a "
    "full re-solve, with the Hessian's as with the Fisher matrix's: the fourth route",
    worked=lambda: [two_layers()],
    breaks=[NO_OUTER, FLIPPED_OUTER, NO_CURVED, NO_ENTROPY_PART, NO_DISCOUNT],
)  # fmt: skip
def enumerated_route_agrees(case: Case, room: Room) -> Margin:
    theta = oracles.log_optimum(case.world, case.features @ case.nu, case.tau).real
    cut = Cut(case, theta.ravel(), 2)
    (p, traj), policy, gamma = cut.trajectories(), cut.policy(room), case.world.gamma
    returns = room.parts.returns_along(traj, traj.rewards, gamma=gamma)
    b = p @ room.parts.sampled_upper_gradient(policy, traj, returns)
    exact = oracles.complex_step(oracles.utility(case, 0.0), case.nu)
    margins = []
    for curvature in _curvatures(cut, room):
        z = -np.linalg.lstsq(curvature, b, rcond=1e-10)[0]  # a null direction in every state
        T1 = p @ room.parts.mixed_product(policy, traj, case.features, z, gamma=gamma)
        margins.append(Margin.equal(T1, exact, oracles.ROUNDING * case.size))
    return Margin.worst(margins)


@dataclass(eq=False)
class Answers:
    """An access that answers each use with given trajectories, for ``replicas`` at once in the scaled room."""

    room: Room
    model: Any
    given: dict[str, Trajectories]
    replicas: int = 1
    asked: list[str] = field(default_factory=list)
    device: str = "cpu"

    @property
    def spec(self) -> Any:
        """What a learner may know."""
        return self.model

    def rollouts(self, policy: Any, requests: Any, key: Any) -> Trajectories:
        """What was given for this use."""
        use = key.purpose.rpartition("/")[2]
        return self.room.inward(self.given["lower" if use.startswith("lower") else use])


def _rows(traj: Trajectories, chosen: Any) -> Trajectories:
    return Trajectories(np.asarray(traj.states)[chosen], traj.actions[chosen], traj.rewards[chosen], traj.mask[chosen])


@claim(
    method="parl", source=f"{PAPER}, Algorithm 1; independence derived", level=Level.PROPERTY,
    statement="over all triples of trajectories, the upper step's mean is the product of the means: utilities and curvature "
    "come from different episodes, and a baseline of the others biases nothing",
    worked=lambda: [Cut(coin(), np.array([0.4, -0.3]), 2)],
    breaks=[
        Line("shared_batch", module="sampled", old='"curvature", self.curvature_batch)', new='"upper", self.curvature_batch)'),
        Wrap("own_mean_as_baseline", part="without_own", by=times(0.5)),
        Wrap("upper_sign_flipped", part="sampled_upper_gradient", by=times(-1.0)),
    ],
)  # fmt: skip
def batches_are_independent(cut: Cut, room: Room) -> Margin:
    (p, traj), case, ridge, damping = cut.trajectories(), cut.case, 0.05, 0.5
    features = case.features
    options = {
        "features": features,
        "tau": case.tau,
        "nu0": case.nu,
        "ridge": ridge,
        "damping": damping,
        "term": "identity",
    }
    made = room.make("SampledParl", policy=cut.policy(room), upper_batch=2, curvature_batch=1, lower_steps=1, **options)
    mean = np.zeros_like(case.nu)
    for i, j, k in itertools.product(range(len(p)), repeat=3):
        # a shared batch would hand the first utility's episode to the curvature as well
        given = {"upper": _rows(traj, [i, j]), "curvature": _rows(traj, [k]), "lower": _rows(traj, [0])}
        access = Answers(room, case.model, given)
        state = made.init(access, 0)
        phi = room.inward(features)
        after = made.upper_step(state, made.policy.with_theta(state.theta), phi, access)
        mean += p[i] * p[j] * p[k] * np.reshape(room.call(lambda after=after: after.gradient), -1)
    b = gradient(cut.regularised(case.world.r), cut.theta)
    mixed = [
        oracles.complex_step(lambda x, m=m: cut.regularised(features[..., m])(x), cut.theta)
        for m in range(case.nu.size)
    ]
    exact = np.array(mixed) @ b / damping - 2 * ridge * case.nu
    return Margin.equal(mean, exact, oracles.ROUNDING * case.size / damping)


@claim(
    method="parl", source=f"{PAPER}, Bradley-Terry upper level; derived", level=Level.STATISTICAL,
    statement="sampled pairs and labels estimate the hypergradient without bias (2000 replicas, each component within 5 "
    "standard errors: error level 1e-6)",
    rooms=("scaled",), worked=lambda: [three_state()],
    breaks=[
        Wrap("labels_the_other_way", part="teacher", by=lambda f: lambda R, other, scale: f(other, R, scale)),
        Line("a_pair_counted_once", module="sampled", old="return 2 * without_own(ell)", new="return without_own(ell)"),
        Wrap("bradley_terry_flipped", part="label_residual", by=times(-1.0)),
    ],
)  # fmt: skip
def sampled_preferences_are_unbiased(case: Case, room: Room) -> Margin:
    damping, steps, n = 0.2, 2, 2000
    cut = Cut(case, np.sin(1.0 + np.arange(6.0)), steps)
    # a lower step of 1e-12 leaves the policy where it is
    options = {
        "features": case.features,
        "tau": case.tau,
        "nu0": case.nu,
        "ridge": 0.0,
        "damping": damping,
        "term": "identity",
    }
    trace = room.run(
        "SampledParl", Online(case.model), steps=2, n=n, policy=cut.policy(room), upper="preference", truncation=steps,
        lower_steps=1, lower_batch=1, lower_step=1e-12, upper_batch=32, curvature_batch=16, **options,
    )  # fmt: skip
    found = trace.state["gradient"]
    p, traj = cut.trajectories()
    powers = case.world.gamma ** np.arange(steps) * traj.mask
    true = (powers * traj.rewards).sum(axis=1)
    phi = np.einsum("nt,ntm->nm", powers, case.features[np.asarray(traj.states), traj.actions])
    y = 1 / (1 + np.exp(-(true[:, None] - true[None])))
    D = (phi[:, None] - phi[None]) @ case.nu
    ell = -(y * np.log1p(np.exp(-D)) + (1 - y) * np.log1p(np.exp(D)))
    T2 = np.einsum("i,ij,ijm,j->m", p, y - 1 / (1 + np.exp(-D)), phi[:, None] - phi[None], p)
    scores = _path_scores(traj, oracles.log_softmax(cut.theta.reshape(3, 2)))
    b = (p * ((ell + ell.T) @ p)) @ scores
    mixed = [
        oracles.complex_step(lambda x, m=m: cut.regularised(case.features[..., m])(x), cut.theta) for m in range(2)
    ]
    exact = np.array(mixed) @ b / damping + T2
    error = np.abs(found.mean(axis=0) - exact) / (found.std(axis=0, ddof=1) / np.sqrt(n))
    return Margin.at_most(error, 5.0, 0.0)


def _path_scores(traj: Trajectories, log_pi: np.ndarray) -> np.ndarray:
    """``grad log p(tau)`` of every row in the logits."""
    pi, (S, A) = np.exp(log_pi), log_pi.shape
    out = np.zeros((len(traj.actions), S, A))
    for i, (states, actions, mask) in enumerate(zip(np.asarray(traj.states), traj.actions, traj.mask, strict=True)):
        for s, a, on in zip(states, actions, mask, strict=True):
            if on:
                out[i, s] += np.eye(A)[a] - pi[s]
    return out.reshape(len(out), -1)
