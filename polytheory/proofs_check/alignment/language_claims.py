"""Claims about reward design for language models: the covariance form, groups, the Fisher solve, fixed points."""

from __future__ import annotations

import itertools

import numpy as np

from polytheory.proofs_check.alignment import oracles
from polytheory.proofs_check.alignment.breaks import times
from polytheory.proofs_check.alignment.instances import Bandit, bandits, tabular_lm, two_prompts
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim

PAPER = "chakraborty2024"
TOLERANCE = 1e-13  # sums of at most a thousand terms of size 1 to 10 over beta
NOT_CENTRED = Wrap("not_centred", part="centred", by=lambda f: lambda pi, g: g)
TEMPERATURE = Wrap("temperature_doubled", part="tilted_law", by=lambda f: lambda ref, r, beta: f(ref, r, 2 * beta))


def law(bandit: Bandit, room: Room, nu: np.ndarray | None = None) -> np.ndarray:
    """The room's optimum."""
    nu = bandit.nu if nu is None else nu
    return room.parts.tilted_law(np.log(bandit.pi_ref), bandit.features @ nu, bandit.beta)


def preference(bandit: Bandit, room: Room, nu: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, T1 and T2 of the room at nu."""
    pi, r = law(bandit, room, nu), bandit.features @ nu
    G, T1, T2 = room.parts.preference_gradient(bandit.rho, pi, bandit.labels, r, bandit.features, bandit.beta)
    return float(G), T1, T2


@claim(
    method="parl", source="derived; the tilted optimum of KL-regularised rewards", level=Level.PROPERTY,
    statement="for completions the hypergradient is a covariance over beta: exact on a worked bandit and on every sequence of "
    "a tabular language model, for utilities and for choices",
    worked=bandits,
    breaks=[NOT_CENTRED, TEMPERATURE, Wrap("bradley_terry_flipped", part="label_residual", by=times(-1.0))],
)  # fmt: skip
def covariance_is_the_hypergradient(bandit: Bandit, room: Room) -> Margin:
    pi = law(bandit, room)
    utility = room.parts.utility_gradient(bandit.rho, pi, bandit.r, bandit.features, bandit.beta)
    value, T1, T2 = preference(bandit, room, bandit.nu)
    G = oracles.bandit_preference(bandit)
    return Margin.worst([
        Margin.equal(utility, oracles.complex_step(oracles.bandit_utility(bandit), bandit.nu), TOLERANCE),
        Margin.equal(T1 + T2, oracles.complex_step(G, bandit.nu), TOLERANCE),
        Margin.equal(value, G(bandit.nu.astype(complex)).real, TOLERANCE),
    ])  # fmt: skip


@claim(
    method="parl", source="derived: unbiased sample covariances", level=Level.PROPERTY,
    statement="over all groups of independent completions, the estimates from groups of 2 and 3 (utilities) and 3 and 4 "
    "(pairs) have the exact terms as means",
    worked=lambda: [two_prompts()],
    breaks=[
        Wrap("divided_by_N", part="group_covariance",
             by=lambda f: lambda u, g, beta: f(u, g, beta) * (u.shape[1] - 1) / u.shape[1]),
        Line("own_pair_in_the_baseline", module="language", room="reference",
             old="(g.sum(axis=1)[:, None, None] - both) / (N - 2)",
             new="g.sum(axis=1)[:, None, None] / N"),
        Line("own_pair_in_the_baseline_in_torch", module="language", room="scaled",
             old="(scores.sum(1)[:, None, None] - both) / (N - 2)", new="scores.sum(1)[:, None, None] / N + 0 * both"),
        Wrap("bradley_terry_flipped", part="pair_direct", by=times(-1.0)),
    ],
)  # fmt: skip
def group_estimates_are_unbiased(bandit: Bandit, room: Room) -> Margin:
    pi, K, parts = law(bandit, room), bandit.r.shape[1], room.parts
    utility = parts.utility_gradient(bandit.rho, pi, bandit.r, bandit.features, bandit.beta)
    _, T1, T2 = preference(bandit, room, bandit.nu)
    R = bandit.features @ bandit.nu
    D = R[:, :, None] - R[:, None, :]
    ell = -(bandit.labels * np.log1p(np.exp(-D)) + (1 - bandit.labels) * np.log1p(np.exp(D)))
    margins = []
    for N in (2, 3, 4):
        groups = np.array(list(itertools.product(range(K), repeat=N)))
        sums = np.zeros((3, bandit.nu.size))
        for x, rho in enumerate(bandit.rho):
            p, g = rho * pi[x][groups].prod(axis=1), bandit.features[x][groups]
            pairs = (x, groups[:, :, None], groups[:, None, :])
            sums[0] += p @ parts.group_covariance(bandit.r[x][groups], g, bandit.beta)
            if N > 2:
                sums[1] += p @ parts.pair_covariance(ell[pairs], g, bandit.beta)
            sums[2] += p @ parts.pair_direct(bandit.labels[pairs], R[x][groups], g)
        wanted = np.stack([utility, T1 if N > 2 else 0 * T1, T2])
        margins.append(Margin.equal(sums, wanted, TOLERANCE))
    return Margin.worst(margins)


@claim(
    method="parl", source="derived: the single Fisher solve; rajeswaran2017 for its use with conjugate gradients",
    level=Level.PROPERTY,
    statement="on the logits of a tabular language model, coefficients from one Fisher solve by conjugate gradients give the "
    "covariance: mean c grad r over beta",
    worked=lambda: [tabular_lm()],
    breaks=[
        Wrap("not_solved", part="conjugate_gradients", by=lambda f: lambda apply, b, *, steps: b),
        Wrap("one_step_only", part="conjugate_gradients", by=lambda f: lambda apply, b, *, steps: f(apply, b, steps=1)),
        NOT_CENTRED,
    ],
)  # fmt: skip
def one_fisher_solve_gives_the_covariance(bandit: Bandit, room: Room) -> Margin:
    from polytheory.models.tabular_lm import TabularLM

    lm, pi = TabularLM(3, 2), law(bandit, room)
    scores = lm.scores(lm.logits_of(pi[0])).reshape(lm.N, -1)
    c = room.parts.fisher_coefficients(pi[0], scores, bandit.r[0], damping=0.0, steps=50)
    exact = room.parts.utility_gradient(bandit.rho, pi, bandit.r, bandit.features, bandit.beta)
    # conjugate gradients end at 1e-12 of the right-hand side; the Fisher matrix has a condition below 100 here
    return Margin.equal((pi[0] * c) @ bandit.features[0] / bandit.beta, exact, 1e-10)


POINTS = {  # ascent from 0: nu, G, true return
    "full": ((-0.0682693, 0.7165595), -0.6828790954, 0.3739101),
    "no response": ((-0.1291503, 0.4011945), -0.6847419328, 0.3329537),
    "offline": ((-0.1659949, 0.1396974), -0.6893340583, 0.3015630),
}


@claim(
    method="parl", source=f"{PAPER}, on what ignoring the term loses; worked", level=Level.PROPERTY,
    statement="ascent with the distribution term, without it, and on data of the reference policy ends in three different "
    "points; likelihood and true return fall in this order (0.3739, 0.3330, 0.3016)",
    worked=lambda: [two_prompts()], breaks=[NOT_CENTRED, TEMPERATURE, Wrap("flipped", part="centred", by=times(-1.0))],
)  # fmt: skip
def fixed_points_differ(bandit: Bandit, room: Room) -> Margin:
    margins = []
    for kind, (told, G_told, J_told) in POINTS.items():
        nu = np.array(told)
        pi = law(bandit, room, nu)
        G, T1, T2 = preference(bandit, room, nu)
        if kind == "offline":
            options = (bandit.labels, bandit.features @ nu, bandit.features, bandit.beta)
            _, _, slope = room.parts.preference_gradient(bandit.rho, bandit.pi_ref, *options)
        else:
            slope = T1 + T2 if kind == "full" else T2
        J = float(np.einsum("x,xk,xk->", bandit.rho, pi, bandit.r))
        # seven digits of nu are half a digit off, and neither slopes nor values change by more than 1 a unit of nu
        margins += [Margin.equal(slope, [0.0, 0.0], 1e-7), Margin.equal([G, J], [G_told, J_told], 1e-7)]
    values = np.array([[g, j] for _, g, j in POINTS.values()])
    return Margin.worst([*margins, Margin.at_most(values[1:], values[:-1], 0.0)])
