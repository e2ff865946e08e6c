"""Claims of RPO: the SFT loss is the regulariser of a maximin problem, and what `polytheory verify rpo` solves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining import rpo_theory_claims as rpo_theory_claims
from polytheory.proofs_check.posttraining.probe import EXACT, pull

DOUBLED = Wrap("sft_doubled", part="sft_coefficient", by=lambda f: lambda *a, **k: 2 * f(*a, **k))
PUSHED_DOWN = Wrap("sft_pushes_down", part="sft_term", by=lambda f: lambda log_prob, c: f(log_prob, -c))
NOT_TIMES_BETA = Wrap(
    "not_times_beta", part="sft_coefficient", by=lambda f: lambda eta, beta, n, **k: f(eta, 1.0, n, **k)
)
REJECTED = Wrap("imitates_the_rejected", part="base_rows", by=lambda f: lambda columns: columns["pairs"][:, 1])


@dataclass(frozen=True, eq=False)
class Case:
    """A responses to one prompt with win counts [A, A], reference and baseline policies, logits [A] of the policy."""

    wins: Float[np.ndarray, "A A"]
    ref: Float[np.ndarray, " A"]
    base: Float[np.ndarray, " A"]
    beta: float
    eta: float
    logits: Float[np.ndarray, " A"]
    worked: bool = False

    @cached_property
    def pi(self) -> Float[np.ndarray, " A"]:
        """The policy."""
        p = np.exp(self.logits - self.logits.max())
        return p / p.sum()

    def pulled(self, room: Room, **settings: Any) -> tuple[float, Float[np.ndarray, " A"]]:
        """The room's population loss and its gradient in the logits: every comparison with every baseline response."""
        i, j = np.nonzero(self.wins)
        k = np.nonzero(self.base)[0]
        pairs = np.stack([np.repeat(i, len(k)), np.repeat(j, len(k))], axis=1)
        weight = np.multiply.outer(self.wins[i, j] / self.wins.sum(), self.base[k]).ravel()
        columns = {
            "mask": np.ones((len(self.ref), 1), dtype=bool), "pairs": pairs, "base": np.tile(k, len(i)),
            "log_probs": np.log(self.pi)[:, None], "log_probs_ref": np.log(self.ref)[:, None],
        }  # fmt: skip
        value, slope = pull(room, "rpo", columns, weight, **{"beta": self.beta, "eta": self.eta, **settings})
        return float(weight @ value), slope[:, 0] - self.pi * slope.sum()

    @property
    def size(self) -> float:
        """What rounding is relative to: the largest log-prob and margin."""
        return 1 + float(np.abs(np.log(self.pi)).max() + np.abs(np.log(self.ref)).max()) * (1 + self.beta + self.eta)

    def at(self, logits: Float[np.ndarray, " A"]) -> Case:
        """The same problem at another policy."""
        return Case(self.wins, self.ref, self.base, self.beta, self.eta, logits, self.worked)


def paper_case() -> Case:
    """Three responses, 13 comparisons."""
    wins, ref = np.array([[0.0, 6, 1], [2, 0, 2], [1, 1, 0]]), np.array([0.4, 0.4, 0.2])
    return Case(wins, ref, np.array([0.7, 0.3, 0.0]), 0.5, 0.3, np.log([0.5, 0.2, 0.3]), True)


def unseen() -> Case:
    """A fourth response that nobody compared and the baseline never gives."""
    wins = np.zeros((4, 4))
    wins[:3, :3] = paper_case().wins
    ref, base = np.array([0.35, 0.35, 0.2, 0.1]), np.array([0.7, 0.3, 0.0, 0.0])
    return Case(wins, ref, base, 0.5, 0.3, np.log([0.3, 0.3, 0.2, 0.2]), True)


def cases() -> Any:
    """Hypothesis: 2 to 4 responses, every comparison with wins on both sides, sharp and flat policies."""
    from hypothesis import strategies as st

    def make(A: int, seed: int, scale: float, beta: float, eta: float) -> Case:
        rng = np.random.default_rng(seed)
        wins = rng.integers(1, 5, (A, A)) * (1.0 - np.eye(A))
        ref = rng.dirichlet(np.full(A, 3.0)) * 0.9 + 0.1 / A
        base = rng.dirichlet(np.ones(A)) * (rng.random(A) < 0.7)
        base = base / base.sum() if base.sum() > 0 else np.eye(A)[0]
        return Case(wins, ref, base, beta, eta, scale * rng.normal(size=A))

    return st.builds(
        make, st.integers(2, 4), st.integers(0, 10**6), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.1, 0.5, 2.0]),
        st.sampled_from([0.1, 0.3, 2.0]),
    )  # fmt: skip


@claim(
    method="rpo", source="liu2024, proof of Theorem 4.2", level=Level.SYMBOLIC,
    statement="for every reward r, likelihood, reference and baseline: eta (beta log Z_r - E_base r) + L_D(r) = L(pi_r) + eta "
    "beta E_base log ref at the Gibbs policy pi_r, whose implicit reward is r up to a constant (sympy)",
    breaks=[
        DOUBLED, PUSHED_DOWN, NOT_TIMES_BETA,
        Wrap("reference_forgotten", part="implicit_reward", by=lambda f: lambda log_prob, log_ref, beta: f(log_prob, 0, beta)),
        Wrap("printed_formula", part="implicit_reward", by=lambda f: lambda log_prob, log_ref, beta: beta * log_prob / log_ref),
    ],
)  # fmt: skip
def sft_is_the_regulariser(_: None, room: Room) -> Margin:
    import sympy

    reward, imitate, scale = (room.part(name) for name in ("implicit_reward", "sft_term", "sft_coefficient"))
    beta, eta, b1, b2 = sympy.symbols("beta eta b1 b2", positive=True)
    r, ref = sympy.symbols("r1:4"), sympy.symbols("ref1:4", negative=True)  # ref: logs of probabilities
    log_z, base = sympy.Symbol("log_z"), (b1, b2, 1 - b1 - b2)
    unlikely = sympy.Function("unlikely")  # of a margin: whatever the likelihood is
    log_pi = [a + x / beta - log_z for a, x in zip(ref, r, strict=True)]
    implicit = [sympy.expand(reward(lp, a, beta)) for lp, a in zip(log_pi, ref, strict=True)]
    pairs = [(0, 1), (0, 2), (2, 1)]
    likelihood = sum(unlikely(r[i] - r[j]) for i, j in pairs)
    preference = sum(unlikely(sympy.expand(implicit[i] - implicit[j])) for i, j in pairs)
    sft = sum(b * imitate(lp, scale(eta, beta, 1)) for b, lp in zip(base, log_pi, strict=True))
    left = eta * (beta * log_z - sum(b * x for b, x in zip(base, r, strict=True))) + likelihood
    right = preference + sft + eta * beta * sum(b * a for b, a in zip(base, ref, strict=True))
    return Margin.proved(sympy.expand(left - right) == 0)


@claim(
    method="rpo", source="liu2024, Lemma 4.1 and proof of Theorem 4.2", level=Level.PROPERTY,
    statement="the same by numbers: at the Gibbs policy of any reward the loss of all comparisons with all baseline responses "
    "is the reward's best-response value less eta beta E_base log ref, and r + c gives the same policy and loss",
    worked=lambda: [paper_case()], generated=cases,
    breaks=[
        DOUBLED, PUSHED_DOWN, NOT_TIMES_BETA, REJECTED,
        Line("half_beta", module="pairs", room="reference", old="x = beta * pair_margin(columns)",
             new="x = beta / 2 * pair_margin(columns)"),
    ],
)  # fmt: skip
def loss_at_gibbs_policies(case: Case, room: Room) -> Margin:
    margins = []
    for shift in (0.0, 1.7):
        r = case.logits + shift
        z = float(case.ref @ np.exp(r / case.beta - (r / case.beta).max())) * np.exp((r / case.beta).max())
        gibbs = case.at(np.log(case.ref) + r / case.beta)
        likelihood = sum(
            case.wins[i, j] * np.log1p(np.exp(r[j] - r[i])) for i, j in zip(*np.nonzero(case.wins), strict=True)
        ) / case.wins.sum()  # fmt: skip
        value = case.eta * (case.beta * np.log(z) - case.base @ r) + likelihood
        found = gibbs.pulled(room)[0] + case.eta * case.beta * float(case.base @ np.log(case.ref))
        margins.append(Margin.equal(found, value, EXACT * gibbs.size))
    return Margin.worst(margins)


@claim(
    method="rpo", source="liu2024, Theorem 4.2", level=Level.CERTIFICATE,
    statement="the policy of min_r max_pi f solves max_pi min_r f (saddle point) and is the minimiser of the RPO loss: "
    "(.7564197, .1925641, .0510161) with value .5984390095 and loss .7358826193 on the worked instance",
    worked=lambda: [paper_case()], generated=cases,
    breaks=[DOUBLED, PUSHED_DOWN, NOT_TIMES_BETA, REJECTED],
)  # fmt: skip
def one_solution_of_three_problems(case: Case, room: Room) -> Margin:
    r = _worst_reward(case)
    best = case.at(np.log(case.ref) + r / case.beta)
    value, slope = best.pulled(room)
    # the certificate: pi answers r (Gibbs), r answers pi (no slope left in the convex r), and the loss has no slope at pi
    rest = case.eta * (best.pi - case.base) + _likelihood_slope(r, case.wins)
    tolerance = 1e-9 * best.size
    margins = [Margin.equal(rest, 0 * rest, tolerance), Margin.equal(slope, 0 * slope, tolerance)]
    if case.worked:
        margins.append(Margin.equal(best.pi, [0.7564197, 0.1925641, 0.0510161], 0.5e-7))
        regularised = case.beta * np.log(case.ref @ np.exp(r / case.beta)) - case.base @ r
        found = [case.eta * regularised + _likelihood(r, case.wins), value]
        margins.append(Margin.equal(found, [0.5984390095, 0.7358826193], 1e-10))
    if room.name == "reference":
        problem = room.part("Preferences")(case.wins, case.ref, case.base, case.beta, case.eta)
        margins.append(Margin.equal(room.part("minimise_rpo")(problem), best.pi, 1e-7))
    return Margin.worst(margins)


def _likelihood(r: np.ndarray, wins: np.ndarray) -> float:
    return float((wins * np.logaddexp(0.0, r[None, :] - r[:, None])).sum() / wins.sum())


def _likelihood_slope(r: np.ndarray, wins: np.ndarray) -> np.ndarray:
    lose = wins / (1 + np.exp(r[:, None] - r[None, :])) / wins.sum()
    return lose.sum(axis=0) - lose.sum(axis=1)


def _worst_reward(case: Case) -> np.ndarray:
    """``argmin_r max_pi f`` by Newton's method with differences of the slope; r is centred."""
    A = len(case.ref)

    def slope(r: np.ndarray) -> np.ndarray:
        p = case.ref * np.exp((r - r.max()) / case.beta)
        return case.eta * (p / p.sum() - case.base) + _likelihood_slope(r, case.wins)

    def size(r: np.ndarray) -> float:
        return float(np.linalg.norm(slope(r)))

    r = np.zeros(A)
    for _ in range(200):
        g = slope(r)
        if size(r) < 1e-13:
            break
        curve = np.stack([(slope(r + h) - slope(r - h)) / 2e-6 for h in 1e-6 * np.eye(A)], axis=1)
        step = -np.linalg.lstsq(curve, g, rcond=1e-8)[0]
        while size(r + step) > size(r) and np.abs(step).max() > 1e-14:
            step = step / 2
        r = r + step - (r + step).mean()
    return r


@claim(
    method="rpo", source="liu2024, Section 4 (what the SFT term adds)", level=Level.PROPERTY,
    statement="DPO has no slope in the logit of a response that never occurs, RPO has eta beta pi: gradients (-.0784046, "
    ".0554701, .0229345, 0) and (-.1384046, .0554701, .0529345, .03) on the worked instance (eta beta = .15)",
    worked=lambda: [unseen()], generated=lambda: cases().map(_with_unseen),
    breaks=[
        DOUBLED, NOT_TIMES_BETA, Wrap("sft_pushes_down", part="sft_term", room="scaled", by=lambda f: lambda lp, c: f(lp, -c)),
        Line("slope_turned", room="reference", old='["log_probs"] - np.where', new='["log_probs"] + np.where'),
    ],
)  # fmt: skip
def unseen_responses_are_pushed_down(case: Case, room: Room) -> Margin:
    dpo, full = (case.pulled(room, eta=eta)[1] for eta in (0.0, case.eta))
    weight = case.eta * case.beta
    margins = [
        Margin.equal(dpo[-1], 0.0, EXACT * case.size),
        Margin.equal(full[-1], weight * case.pi[-1], EXACT * case.size),
        Margin.equal(full - dpo, weight * (case.pi - case.base), EXACT * case.size),
    ]
    if case.worked:
        margins.append(Margin.equal(dpo, [-0.0784046, 0.0554701, 0.0229345, 0.0], 0.5e-7))
        margins.append(Margin.equal(full, [-0.1384046, 0.0554701, 0.0529345, 0.03], 0.5e-7))
    return Margin.worst(margins)


def _with_unseen(case: Case) -> Case:
    A = len(case.ref)
    wins = np.zeros((A + 1, A + 1))
    wins[:A, :A] = case.wins
    ref = np.append(0.8 * case.ref, 0.2)
    return Case(wins, ref, np.append(case.base, 0.0), case.beta, case.eta, np.append(case.logits, 0.3))


@claim(
    method="rpo", source="liu2024, Section 4 and released code", level=Level.PROPERTY,
    statement="eta = 0 is DPO to the bit; for eta -> inf the base policy is stationary; the scalings of the SFT term differ by "
    "beta and by the length of the response",
    worked=lambda: [paper_case()], generated=cases,
    breaks=[
        DOUBLED, NOT_TIMES_BETA, REJECTED,
        Line("length_forgotten", room="reference", old="return eta / length", new="return eta + 0 * length"),
        Line("length_forgotten_in_torch", room="scaled", old="return eta / length", new="return eta + 0 * length"),
    ],
)  # fmt: skip
def limits_and_scalings(case: Case, room: Room) -> Margin:
    i, j = np.nonzero(case.wins)
    lengths = 1 + np.arange(len(case.ref)) % 3
    mask = np.arange(3)[None, :] < lengths[:, None]
    log_pi, log_ref = (np.where(mask, np.log(p)[:, None] / lengths[:, None], 0.0) for p in (case.pi, case.ref))
    columns = {"mask": mask, "pairs": np.stack([i, j], axis=1), "log_probs": log_pi, "log_probs_ref": log_ref}
    plain = pull(room, "dpo", columns, beta=case.beta)
    bare = pull(room, "rpo", columns, beta=case.beta, eta=0.0)
    margins = [Margin.equal(a, b, 0.0) for a, b in zip(plain, bare, strict=True)]
    for sft, factor in (("cumulative", case.beta), ("sum", 1.0), ("average", 1 / lengths[i])):
        value = pull(room, "rpo", columns, beta=case.beta, eta=case.eta, sft=sft)[0]
        expected = plain[0] - case.eta * factor * np.log(case.pi)[i]
        margins.append(Margin.equal(value, expected, EXACT * case.size))
    full = 0.9 * case.base + 0.1 / len(case.base)
    imitation = Case(case.wins, case.ref, full, case.beta, 1e9, np.log(full)).pulled(room)[1] / 1e9
    # what DPO adds is at most beta, and divided by eta
    margins.append(Margin.equal(imitation, 0 * imitation, 2e-9 * case.beta + EXACT * case.size))
    return Margin.worst(margins)


def _learner(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        softmax = room.part("TabularSoftmax")
        return {"policy": softmax.zeros(model.S, model.A), **settings}

    return build


_ONES = {"reward": "ones-minus-half-length"}
DEMOS = (
    Demo(
        "token-mdp", "Rpo", _learner(prompts=64, beta=0.5, eta=0.1, step_size=2.0), steps=80, options=_ONES,
        lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "Rpo", _learner(prompts=32, beta=0.5, eta=0.2, sft="average", step_size=1.0, updates=2), steps=40,
        options=_ONES, lockstep_steps=8,
    ),
)  # fmt: skip
