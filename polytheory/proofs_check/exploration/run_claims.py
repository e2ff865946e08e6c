"""Claims about regret accounts and about whole runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.exploration.actor_claims import ALWAYS, NEVER
from polytheory.proofs_check.exploration.critic_claims import METHOD, PAPER
from polytheory.proofs_check.exploration.oac_instances import (
    ROUNDING,
    Pieces,
    World,
    linear_world,
    m0,
    pieces,
    trajectory_sum,
)
from polytheory.reference.exploration.behaviours import behaviour_episodes

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
    T, phi = 48, world.phi
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


@claim(
    method=METHOD, source="derived: an empty data set", level=Level.PROPERTY,
    statement="with an empty data set the hybrid method is the online one, bit for bit",
    breaks=[Wrap("prior_visit", part="nothing_seen", by=lambda f: lambda *a: type(f(*a))(f(*a)[0] + 1, *f(*a)[1:]),
                 room="reference"),
            Wrap("no_bonus_offline", part="NoraHybrid.radii", by=lambda f: lambda self, spec: 0 * f(self, spec))],
)  # fmt: skip
def empty_data_change_nothing(_: None, room: Room) -> Margin:
    world = World(m0())
    nothing = behaviour_episodes(world.model, "uniform", 1)
    empty = type(nothing)(*(getattr(nothing, name)[:0] for name in ("states", "actions", "rewards", "mask")))
    settings: dict[str, Any] = {"steps": 16, "n": 2, "episodes": 16}
    a = room.run("Nora", world.online(), **settings)
    b = room.run("NoraHybrid", world.online(), offline=empty, **settings)
    return Margin.worst([
        Margin.equal(a.state["log_weights"], b.state["log_weights"], 0.0),
        Margin.equal(a.state["log_weights"], _sixteen_sound_episodes(), ROUNDING),
    ])  # fmt: skip


@cache
def _sixteen_sound_episodes() -> np.ndarray:
    """Log-weights of the sound reference after 16 episodes online."""
    room = Room("reference", "exploration", METHOD)
    return room.run("Nora", World(m0()).online(), steps=16, n=2, episodes=16).state["log_weights"]
