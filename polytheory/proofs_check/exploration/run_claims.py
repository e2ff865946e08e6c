"""Claims about regret accounts and about whole runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from polytheory.access import Key, Online, Requests
from polytheory.models.registry import make
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.exploration.actor_claims import ALWAYS, NEVER
from polytheory.proofs_check.exploration.critic_claims import METHOD, NO_BONUS, PAPER
from polytheory.proofs_check.exploration.oac_instances import (
    ROUNDING,
    Pieces,
    World,
    linear_world,
    m0,
    pieces,
    trajectory_sum,
)
from polytheory.streams import row_ids

Z = 3.9  # one-sided normal quantile of error level 5e-5


# ---- accounts of regret --------------------------------------------------------------------------------------------


@claim(
    method=METHOD, source=f"{PAPER}, value-difference identity", level=Level.PROPERTY, rooms=("reference",),
    statement="V^pi* - V^pi = tracking - critic error under pi* + critic error under pi, for any critic and any two policies",
    worked=lambda: [_worked_pieces()], generated=pieces,
    breaks=[
        Wrap("wrong_horizon_index", part="bellman_gaps", by=lambda f: lambda model, x, pi=None: np.roll(f(model, x, pi), 1, 0)),
        Line("own_stage", module="regret", old="law = d[h].reshape(-1)", new="law = d[max(h - 1, 0)].reshape(-1)"),
        Wrap("target_q_star", part="bellman_gaps", by=lambda f: lambda model, x, pi=None: f(model, x)),
        Line("sign", module="regret", old="self.tracking - self.critic_on_star", new="self.tracking + self.critic_on_star"),
    ],
)  # fmt: skip
def regret_decomposes(x: Pieces, room: Room) -> Margin:
    found = room.part("decomposition")(x.model, x.f, x.pi, x.other)
    # by listing trajectories: neither occupancies nor backward induction
    truth = [trajectory_sum(x.model, pi, np.stack([x.model.r_at(h) for h in range(len(pi))])) for pi in (x.other, x.pi)]
    return Margin.equal([found.regret], [truth[0] - truth[1]], ROUNDING)


def _worked_pieces() -> Pieces:
    rng = np.random.default_rng(0)
    pi, other = (rng.dirichlet(np.ones(2), size=(3, 2)) for _ in range(2))
    return Pieces(m0(), rng.normal(size=(3, 2, 2)), pi, other)


@claim(
    method=METHOD, source="worked by hand on two states and three stages", level=Level.PROPERTY, rooms=("reference",),
    statement="decomposition and certificate of softmax(n eta f) after n = 1, 5, 20 updates are the worked numbers",
    breaks=[
        Line("all_stages", module="regret", old="float(on_pi[1:].sum())", new="float(on_pi.sum())"),
        Line("wrong_policy", module="regret", old="behind = f.max(-1) - (pi * f)", new="behind = f.max(-1) - (pi_star * f)"),
    ],
)  # fmt: skip
def accounts_are_the_worked_ones(_: None, room: Room) -> Margin:
    model = m0()
    f = np.array([
        [[1.328, 1.768], [1.444, 3.0]], [[0.67, 0.92], [0.71, 2.0]], [[0.3, 0.2], [0.2, 1.0]]
    ])  # fmt: skip
    best = room.part("greedy_policy")(room.part("stage_q_values")(model))
    rows = {
        1: (0.64802529, 0.75392886, 0.95003172, 0.84412815, 0.42836942, 0.41575873, 0.75392886),
        5: (0.26330544, 0.25526443, 0.53737888, 0.54541988, 0.40179235, 0.14362753, 0.25526443),
        20: (0.02696185, 0.02064778, 0.40731127, 0.41362533, 0.39775668, 0.01586865, 0.02064778),
    }
    margins = []
    for n, row in rows.items():
        pi = room.part("softmax")(n * 0.5 * f)
        d, c = room.part("decomposition")(model, f, pi, best), room.part("certificate")(model, f, pi, best)
        margins.append(Margin.equal([d.regret, *d, *c], row, 0.5e-8 + ROUNDING))
    return Margin.worst(margins)


@claim(
    method=METHOD, source=f"{PAPER}, offline transfer (Jensen step)", level=Level.PROPERTY, rooms=("reference",),
    statement="E_pi* |f - T f| <= sqrt(c* E_rho (f - T f)^2) at every stage, c* = max d* / rho",
    worked=lambda: [_worked_pieces()], generated=pieces,
    breaks=[
        Wrap("mean_ratio", part="comparator_ratio", by=lambda f: lambda d, rho: 0.1 * f(d, rho)),
        Wrap("ratio_upside_down", part="comparator_ratio", by=lambda f: lambda d, rho: 1 / np.maximum(f(d, rho), 1e-9)),
    ],
)  # fmt: skip
def coverage_transfers_errors(x: Pieces, room: Room) -> Margin:
    star = room.part("visit_law")(x.model, x.other)
    rho = 0.5 * star + 0.5 * room.part("visit_law")(x.model, x.pi)
    error, c = room.part("bellman_gaps")(x.model, x.f), room.part("comparator_ratio")(star, rho)
    constant = np.ones_like(error)  # where the inequality is as tight as it gets
    margins = []
    for e in (error, constant, star / np.maximum(rho, 1e-12)):
        left, right = (star * np.abs(e)).sum((-2, -1)), np.sqrt(c * (rho * e**2).sum((-2, -1)))
        margins.append(Margin.at_most(left, right, ROUNDING))
    return Margin.worst(margins)


# ---- runs ----------------------------------------------------------------------------------------------------------


@claim(
    method=METHOD, source=f"{PAPER}, number of switches; abbasi2011", level=Level.PROPERTY,
    statement="in every run switches <= sum_h log2 det ratio <= H d log2(1 + T / d), and no stage has doubled unnoticed",
    worked=lambda: [World(m0()), linear_world()],
    breaks=[ALWAYS, NEVER, Setting("always", switching="always"),
            Wrap("switch_at_ten_percent", part="switch_due", by=lambda f: lambda now, before: f(7 * (now - before), 0 * now))],
)  # fmt: skip
def switches_are_rare(world: World, room: Room) -> Margin:
    T, phi = 80, world.phi
    settings: dict[str, Any] = {"episodes": T} | ({} if phi is None else {"phi": phi})
    trace = room.run("Nora", world.online(), steps=T, n=2, **settings)
    n, H = trace.state["n"].astype(float), world.model.horizon or 1
    if phi is None:
        d, ratio = world.model.S * world.model.A, np.log1p(n).sum((-2, -1))
    else:
        d = phi.shape[-1]
        ratio = np.linalg.slogdet(np.eye(d) + np.einsum("ihsa,sad,sae->ihde", n, phi, phi))[1]
    switches, missed = trace.state["switches"], (ratio - trace.state["seen_information"]).max(-1)
    return Margin.worst([
        Margin.at_most(switches * (np.log(2) - 1e-9), ratio.sum(-1), ROUNDING),
        Margin.at_most(ratio.sum(-1), np.full(2, H * d * np.log1p(T / d)), ROUNDING),
        Margin.at_most(missed, np.full(2, np.log(2)), ROUNDING),
    ])  # fmt: skip


@claim(
    method=METHOD, source="worked by hand", level=Level.PROPERTY,
    statement="one stage, two arms: pulled in turn the determinant doubles at visits 1, 2, 4, 7, 11, 17, 25, 37, 54; with "
    "one arm at 1, 3, 7, 15, 31, 63",
    breaks=[ALWAYS, NEVER, Wrap("strict", part="switch_due", by=lambda f: lambda now, before: f(now - 1e-6, before))],
)  # fmt: skip
def switch_times_are_the_worked_ones(_: None, room: Room) -> Margin:
    found = []
    for arms in ([0, 1], [0, 0]):
        n, before, times = np.zeros((1, 1, 1, 2)), np.zeros((1, 1)), []
        for t in range(64):
            n[..., arms[t % 2]] += 1
            x = n if room.name == "scaled" else n[0]
            now = np.asarray(room.parts.information(x, None)).reshape(1, 1)
            if bool(np.all(room.parts.switch_due(now, before))):
                before = now
                times.append(t + 1)
        found.append(times)
    return Margin.proved(found == [[1, 2, 4, 7, 11, 17, 25, 37, 54], [1, 3, 7, 15, 31, 63]])


def half_optimal_data(model: Any, episodes: int, seed: int = 0) -> Any:
    """Episodes of a policy that is optimal at half of its steps and uniform at the other half."""
    from polytheory.reference.exploration.regret import greedy_policy, stage_q_values

    table = 0.5 * greedy_policy(stage_q_values(model)) + 0.5 / model.A
    requests = Requests(row_ids(0, np.arange(episodes)), model.horizon)
    return Online(model).rollouts(TabularPolicy(table), requests, Key(seed, "offline", 0))


def gaps_of(room: Room, algorithm: str, world: World, T: int, n: int, **settings: Any) -> np.ndarray:
    """Exact regret of every episode of n runs: [T, n]."""
    from polytheory.reference.exploration.regret import stage_q_values

    made = room.make(algorithm, episodes=T, **{**world.settings, **settings})
    access = world.online().replicate(n)
    state, model = made.init(access, 0), world.model
    best = float(model.mu @ stage_q_values(model)[0].max(-1))
    P, r = (
        [np.asarray(model.P_at(h)) for h in range(model.horizon or 1)],
        [model.r_at(h) for h in range(model.horizon or 1)],
    )
    out = []
    for _ in range(T):
        pi, v = np.asarray(made.policy(state).tables()), np.zeros((n, model.S))
        for h in reversed(range(len(P))):
            v = (pi[:, h] * (r[h] + (v @ P[h].reshape(-1, model.S).T).reshape(n, model.S, model.A))).sum(-1)
        out.append(best - v @ model.mu)
        state, _ = made.step(state, access)
    return np.array(out)


def _lock(H: int, bait: float = 0.15, A: int = 2) -> World:
    return World(make("baited-lock", H=H, bait=bait, A=A), settings={"value_bound": 1.2})


@claim(
    method=METHOD, source=f"{PAPER}, hybrid RL", level=Level.STATISTICAL, rooms=("scaled",),
    statement="started from 60 offline episodes, NORA loses less than online and switches less, in the mean over 8 runs "
    "(error level 1e-4)",
    breaks=[Line("offline_data_ignored", module="episodic", old="if self.offline is not None:", new="if False:")],
)  # fmt: skip
def offline_data_help(_: None, room: Room) -> Margin:
    world, T, n = _lock(3), 60, 8
    data = half_optimal_data(world.model, 60)
    online = gaps_of(room, "Nora", world, T, n).sum(0)
    hybrid = gaps_of(room, "NoraHybrid", world, T, n, offline=data).sum(0)
    switches = [
        room.run(name, world.online(), steps=20, n=n, episodes=T, **world.settings, **extra).state["switches"]
        for name, extra in (("Nora", {}), ("NoraHybrid", {"offline": data}))
    ]
    return Margin.worst([_less(hybrid, online), _less(switches[1], switches[0])])


def _less(a: np.ndarray, b: np.ndarray) -> Margin:
    """mean a < mean b with confidence: slack is the lower end of the interval of the difference."""
    spread = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
    return Margin(float(b.mean() - a.mean() - Z * spread - 1e-6), 0.0)


@claim(
    method=METHOD, source="derived: an empty data set", level=Level.PROPERTY,
    statement="with an empty data set the hybrid method is the online one, bit for bit",
    breaks=[Wrap("prior_visit", part="nothing_seen", by=lambda f: lambda *a: type(f(*a))(f(*a)[0] + 1, *f(*a)[1:]),
                 room="reference"),
            Wrap("no_bonus_offline", part="NoraHybrid.radii", by=lambda f: lambda self, spec: 0 * f(self, spec))],
)  # fmt: skip
def empty_data_change_nothing(_: None, room: Room) -> Margin:
    world = World(m0())
    nothing = half_optimal_data(world.model, 1)
    empty = type(nothing)(*(getattr(nothing, name)[:0] for name in ("states", "actions", "rewards", "mask")))
    settings: dict[str, Any] = {"steps": 25, "n": 2, "episodes": 25}
    a = room.run("Nora", world.online(), **settings)
    b = room.run("NoraHybrid", world.online(), offline=empty, **settings)
    pristine = Room("reference", room.family, room.method).run("Nora", world.online(), **settings)
    return Margin.worst([
        Margin.equal(a.state["log_weights"], b.state["log_weights"], 0.0),
        Margin.equal(a.state["log_weights"], pristine.state["log_weights"], ROUNDING),
    ])  # fmt: skip


def _slope_worlds() -> list[World]:
    return [_lock(3, A=3), World(make("riverswim", S=3, horizon=4)), linear_world()]


@claim(
    method=METHOD, source=f"{PAPER}, regret bound O(sqrt(T log T))", level=Level.STATISTICAL, rooms=("scaled",),
    statement="between T / 4 and T the regret grows with a log-log slope below 0.8, interval included, on a lock, RiverSwim "
    "and a random linear MDP (10 runs, error level 1.5e-4)",
    worked=_slope_worlds,
    breaks=[Setting("frozen_actor", eta=0.0), Wrap("descends", part="mirror_step", by=lambda f: lambda w, q, e: f(w, q, -e))],
)  # fmt: skip
def regret_is_sublinear(world: World, room: Room) -> Margin:
    # a larger rate than the theorem's: at its own, the phase in which the actor is still near uniform fills all of this T
    T, n = 160, 10
    total = gaps_of(room, "Nora", world, T, n, eta=2.0, **_features(world)).cumsum(0)
    early, late = total[T // 4 - 1], total[-1]
    # delta method for the log of a ratio of means of pairs
    slope = np.log(late.mean() / early.mean()) / np.log(4)
    spread = (late / late.mean() - early / early.mean()).std(ddof=1) / np.sqrt(n) / np.log(4)
    return Margin(float(0.8 - slope - Z * spread), 0.0)


def _features(world: World) -> dict[str, Any]:
    return {} if world.phi is None else {"phi": world.phi}


@cache
def _settled(H: int, A: int, bait: float, T: int) -> np.ndarray:
    """Regret per episode at the end, without optimism and without data (the sound code, whatever room is checked)."""
    room = Room("scaled", "exploration", METHOD)
    return gaps_of(room, "Nora", _lock(H, bait, A), T, RUNS, bonus_scale=0.0)[T - T // 5 :].mean(0)


RUNS = 12


@claim(
    method=METHOD, source=f"{PAPER}: what optimism is for", level=Level.STATISTICAL, rooms=("scaled",),
    statement="on a lock of eight digits the actor-critic without optimism and without data settles for the bait, and the "
    "optimistic one does not (12 runs, error level 5e-5)",
    breaks=[NO_BONUS],
)  # fmt: skip
def without_optimism_the_bait_wins(_: None, room: Room) -> Margin:
    T = 300
    found = gaps_of(room, "Nora", _lock(8, 0.25), T, RUNS, bonus_scale=2.0)[T - T // 5 :].mean(0)
    return _less(found, _settled(8, 2, 0.25, T))


@claim(
    method=METHOD, source=f"{PAPER}: offline data in place of optimism", level=Level.STATISTICAL, rooms=("scaled",),
    statement="on a lock of three digits out of eight the actor-critic without optimism settles for the bait, and with 60 "
    "offline episodes it does not (12 runs, error level 5e-5)",
    breaks=[Line("offline_data_ignored", module="episodic", old="if self.offline is not None:", new="if False:")],
)  # fmt: skip
def offline_data_replace_optimism(_: None, room: Room) -> Margin:
    T, world = 150, _lock(3, 0.3, 8)
    taught = gaps_of(room, "Noah", world, T, RUNS, offline=half_optimal_data(world.model, 60))[T - T // 5 :].mean(0)
    return _less(taught, _settled(3, 8, 0.3, T))
