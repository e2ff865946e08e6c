"""Claims about the formulas of the deep search's learners: densities, targets, losses, and whom the candidate follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.planning.oracles import policies
from polytheory.proofs_check.robust.iwocs_instances import Listed, instances

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

SCALED = ("scaled",)


@claim(
    method="iwocs", source="haarnoja2018, App. C", level=Level.PROPERTY, rooms=SCALED,
    statement="the density of a squashed Gaussian action gives every interval the probability of its preimage",
    worked=lambda: [(0.3, -0.5), (-1.5, 0.4), (0.0, -2.0)],
    breaks=[
        Line("no_slope", module="deep_targets", old="(normal - slope).sum(-1)", new="normal.sum(-1)"),
        Line("no_scale", module="deep_targets", old="- log_std - 0.5 * math.log", new="- 0.5 * math.log"),
        Line("turned_slope", module="deep_targets", old="softplus(-2 * x)", new="softplus(2 * x)"),
    ],
)  # fmt: skip
def squashed_density_gives_probabilities(case: tuple[float, float], room: Room) -> Margin:
    from scipy.special import ndtr

    mean, log_std = case
    edges = np.linspace(-4, 4, 4001)
    z = (edges[1:] + edges[:-1]) / 2
    a, log_p = room.parts.squashed(np.full((len(z), 1), mean), np.full((len(z), 1), log_std), z[:, None])
    widths = np.diff(np.tanh(mean + np.exp(log_std) * edges))
    found = (np.exp(log_p) * widths).reshape(20, -1).sum(-1)
    right = np.diff(ndtr(edges[::200]))
    # midpoint rule: h^2 / 24 times the second derivative of a density of size 1, which is below 20 here
    bound = (edges[1] - edges[0]) ** 2 / 24 * 20
    inside = Margin.at_most(np.abs(a), 1.0, 0.0)
    return Margin.worst([Margin.equal(found, right, bound), inside])


@claim(
    method="iwocs", source="vanhasselt2016; zouitine2024, section 5", level=Level.PROPERTY, rooms=SCALED,
    statement="iterated with exact expectations, the double-Q targets lead to the optimal action values, and value nothing "
    "after an end",
    worked=lambda: instances()[:3],
    breaks=[
        Line("past_the_end", module="deep_targets", old="gamma * torch.where(goes_on, v, 0.0)", new="gamma * v"),
        Line("larger_critic", module="deep_targets", old="target.amin(0)", new="target.amax(0)"),
        Line("least_action", module="deep_targets", old="online.amin(0).argmax(", new="online.amin(0).argmin("),
    ],
)  # fmt: skip
def double_q_targets_lead_to_the_optimal_values(listed: Listed, room: Room) -> Margin:
    S, A = listed.r.shape
    P, end = listed.kernels[0], 2  # an episode ends where it enters state 2
    q, after = np.zeros((S, A)), np.tile(np.arange(S), S * A)
    for _ in range(50):  # 0.5^50 = 1e-15
        both = np.stack([q + 1.0, q])[:, after]
        v = room.parts.double_q_value(both, both)
        y = room.parts.bootstrapped(np.repeat(listed.r.ravel(), S), after != end, v, 0.5)
        q = (P * y.reshape(S, A, S)).sum(-1)
    going = P * (np.arange(S) != end)
    values = []
    for pi in policies(listed.access.model):
        chosen = np.arange(S), pi
        values.append(np.linalg.solve(np.eye(S) - 0.5 * going[chosen], listed.r[chosen]))
    return Margin.equal(q, listed.r + 0.5 * going @ np.max(values, axis=0), 1e-12)


@claim(
    method="iwocs", source="haarnoja2018, Lemma 1; zouitine2024, section 5", level=Level.PROPERTY, rooms=SCALED,
    statement="iterated with exact expectations, the soft targets lead to the value with entropy and the plain ones to the "
    "value without, each from its linear equations",
    worked=lambda: instances()[:3],
    breaks=[
        Line("entropy_as_cost", module="deep_targets", old="q.amin(0) - alpha * log_p", new="q.amin(0) + alpha * log_p"),
        Wrap("entropy_in_the_plain_one", part="plain_value", by=lambda f: lambda q: f(q) + 0.1),
        Wrap("larger_critic", part="entropic_value", by=lambda f: lambda q, *rest: f(q[:1].expand(2, -1), *rest)),
    ],
)  # fmt: skip
def soft_and_plain_targets_lead_to_their_values(listed: Listed, room: Room) -> Margin:
    (S, A), P, alpha = listed.r.shape, listed.kernels[0], 0.3
    pi = np.exp(listed.r) / np.exp(listed.r).sum(-1, keepdims=True)
    margins = []
    for soft in (True, False):
        q = np.zeros(S * A)
        for _ in range(50):
            both = np.stack([q + 1.0, q])
            v = room.parts.entropic_value(both, np.log(pi).ravel(), alpha) if soft else room.parts.plain_value(both)
            v = (pi * v.reshape(S, A)).sum(-1)
            y = room.parts.bootstrapped(listed.r.ravel(), np.ones(S * A, bool), (P @ v).ravel(), 0.5)
            q = y
        entropy = -alpha * (pi * np.log(pi)).sum(-1) if soft else 0.0
        right = np.linalg.solve(np.eye(S) - 0.5 * np.einsum("sa,sat->st", pi, P), (pi * listed.r).sum(-1) + entropy)
        margins.append(Margin.equal(q.reshape(S, A), listed.r + 0.5 * P @ right, 1e-12))
    return Margin.worst(margins)


@claim(
    method="iwocs", source="haarnoja2018, eqs. 5, 7 and 18", level=Level.PROPERTY, rooms=SCALED,
    statement="the losses of critics and actor are their explicit sums, and the temperature's gradient is that of its loss",
    worked=lambda: [0, 1, 2],
    breaks=[
        Line("mean_over_critics", module="deep_targets", old=".mean(-1).sum()", new=".mean()"),
        Line("first_critic", module="deep_targets", old="log_p - q.amin(0)).mean()", new="log_p - q[0]).mean()"),
        Line("wrong_way", module="deep_targets", old="return -alpha * float(", new="return alpha * float("),
    ],
)  # fmt: skip
def losses_are_their_sums(seed: int, room: Room) -> Margin:
    rng = np.random.default_rng(seed)
    q, y, log_p = rng.normal(size=(2, 5)), rng.normal(size=(2, 5)), rng.normal(size=5)
    squared = sum((q[k, i] - y[k, i]) ** 2 / 5 for k in range(2) for i in range(5))
    acted = sum(0.3 * log_p[i] - min(q[0, i], q[1, i]) for i in range(5)) / 5

    def loss(log_alpha: float) -> float:
        return -np.exp(log_alpha) * sum(x - 1.0 for x in log_p) / 5

    slope = (loss(np.log(0.3) + 1e-4) - loss(np.log(0.3) - 1e-4)) / 2e-4
    return Margin.worst([
        Margin.equal(float(room.parts.critic_loss(q, y)), squared, 1e-13),
        Margin.equal(float(room.parts.actor_loss(q, log_p, 0.3)), acted, 1e-13),
        Margin.equal(room.parts.temperature_gradient(log_p, -1.0, 0.3), slope, 1e-8),  # h^2 / 6 of a number of size 1
    ])  # fmt: skip


@claim(
    method="iwocs", source="zouitine2024, section 5 and Algorithm 2", level=Level.PROPERTY, rooms=SCALED,
    statement="the candidate acts on the least expectation among the agents trusted at a state, for whole numbers and for "
    "numbers as actions",
    worked=lambda: [0, 1, 2],
    breaks=[
        Wrap("trust_all", part="smallest_of_all", by=lambda f: lambda q, valid: f(q, valid | True)),
        Wrap("trust_all_actors", part="smallest_of_own", by=lambda f: lambda q, a, valid: f(q, a, valid | True)),
        Line("most_hopeful", module="deep_targets", old="torch.where(valid, q, torch.inf).min(0)",
             new="torch.where(valid, q, -torch.inf).max(0)"),
        Line("far_is_trusted", module="deep_candidate", old=".sum(-1) <= rho", new=".sum(-1) >= rho"),
    ],
)  # fmt: skip
def candidate_acts_on_the_least_expectation(seed: int, room: Room) -> Margin:
    rng = np.random.default_rng(seed)
    q, own, actions = rng.normal(size=(3, 6, 2)), rng.normal(size=(3, 6)), rng.normal(size=(3, 6, 1))
    valid = rng.random((3, 6)) < 0.6
    valid[0] |= ~valid.any(0)
    found, right = [], []
    for name, given in (("smallest_of_all", (q, valid)), ("smallest_of_own", (own, actions, valid))):
        action, value = getattr(room.parts, name)(*given)
        found += [*np.ravel(action), *value]
    for best in ([max((min(q[j, i, a] for j in range(3) if valid[j, i]), a) for a in range(2)) for i in range(6)],
                 [min((own[j, i], actions[j, i, 0]) for j in range(3) if valid[j, i]) for i in range(6)]):  # fmt: skip
        right += [a for _, a in best] + [v for v, _ in best]
    expected, seen = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    errors = [sum(abs(expected[i, k] - seen[i, k]) for k in range(3)) for i in range(6)]
    found += [float(x) for x in room.parts.trusted(expected, seen, 3.0)]
    right += [float(x <= 3.0) for x in errors]
    return Margin.equal(found, right, 0.0)
