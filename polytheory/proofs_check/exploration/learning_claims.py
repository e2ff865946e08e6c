"""Claims about learning curves: replicas of the scaled room, the exact regret of every episode, intervals.

What does not depend on the break that is shown (the other side of a comparison) is run once, with the sound code.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Float, Int
from polytheory.models.registry import make
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.exploration.critic_claims import METHOD, NO_BONUS, PAPER
from polytheory.proofs_check.exploration.oac_instances import World, linear_world
from polytheory.reference.exploration.behaviours import behaviour_episodes
from polytheory.reference.exploration.regret import stage_q_values

Z = 3.9  # one-sided normal quantile of error level 5e-5
RUNS = 24
DATA_IGNORED = Line("offline_data_ignored", module="episodic", old="if self.offline is not None:", new="if False:")


class Curves(NamedTuple):
    """Fields: ``gaps`` [T, n] exact regret of every episode of n runs; ``switches`` [n] at the end."""

    gaps: Float[np.ndarray, "T n"]
    switches: Int[np.ndarray, " n"]

    @property
    def settled(self) -> Float[np.ndarray, " n"]:
        """Mean regret of an episode in the last fifth."""
        return self.gaps[-(len(self.gaps) // 5) :].mean(0)


def curves(room: Room, algorithm: str, world: World, T: int, n: int, **settings: Any) -> Curves:
    """Run ``n`` replicas of an algorithm of the scaled room for T episodes."""
    made = room.make(algorithm, episodes=T, **{**world.settings, **settings})
    access = world.online().replicate(n)
    state, model, H = made.init(access, 0), world.model, world.model.horizon or 1
    best = float(model.mu @ stage_q_values(model)[0].max(-1))
    P, r = [np.asarray(model.P_at(h)).reshape(-1, model.S) for h in range(H)], [model.r_at(h) for h in range(H)]
    gaps = []
    for _ in range(T):
        pi, v = np.asarray(made.policy(state).table()), np.zeros((n, model.S))
        for h in reversed(range(H)):
            v = (pi[:, h] * (r[h] + (v @ P[h].T).reshape(n, model.S, model.A))).sum(-1)
        gaps.append(best - v @ model.mu)
        state, _ = made.step(state, access)
    return Curves(np.array(gaps), np.asarray(state.switches))


def lock(H: int, bait: float = 0.15, A: int = 2) -> World:
    """A baited lock whose best return is known to be about 1."""
    return World(make("baited-lock", H=H, bait=bait, A=A), settings={"value_bound": 1.2})


@cache
def _sound(H: int, A: int, bait: float, T: int, n: int, **settings: float) -> Curves:
    """NORA online on a lock, with the sound code whatever room is checked."""
    room = Room("scaled", "exploration", METHOD)
    return curves(room, "Nora", lock(H, bait, A), T, n, **settings)


def less(a: np.ndarray, b: np.ndarray) -> Margin:
    """mean a < mean b with confidence: slack is the lower end of the interval of the difference."""
    spread = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return Margin(float(b.mean() - a.mean() - Z * spread - 1e-6), 0.0)


def slope(gaps: Float[np.ndarray, "T n"], *, z: float = Z) -> tuple[float, float]:
    """Log-log slope of the regret between T / 4 and T, and half the width of its interval (delta method for the log of a
    ratio of means of pairs)."""
    T, n = gaps.shape
    total = gaps.cumsum(0)
    early, late = total[T // 4 - 1], total[-1]
    spread = (late / late.mean() - early / early.mean()).std(ddof=1) / np.sqrt(n)
    return float(np.log(late.mean() / early.mean()) / np.log(4)), float(z * spread / np.log(4))


@claim(
    method=METHOD, source=f"{PAPER}, hybrid RL", level=Level.STATISTICAL, rooms=("scaled",),
    statement="started from 60 offline episodes, NORA loses less than online and switches less, in the mean over 16 runs "
    "(error level 1e-4)",
    breaks=[DATA_IGNORED],
)  # fmt: skip
def offline_data_help(_: None, room: Room) -> Margin:
    T, n = 40, 16
    world, online = lock(3), _sound(3, 2, 0.15, T, n)
    data = behaviour_episodes(world.model, "half-optimal", 60)
    hybrid = curves(room, "NoraHybrid", world, T, n, offline=data)
    return Margin.worst([less(hybrid.gaps.sum(0), online.gaps.sum(0)), less(hybrid.switches, online.switches)])


@claim(
    method=METHOD, source=f"{PAPER}, regret bound O(sqrt(T log T))", level=Level.STATISTICAL, rooms=("scaled",),
    statement="between T / 4 and T the regret grows with a log-log slope below 0.75, interval included, on a lock, RiverSwim "
    "and a random linear MDP (48 runs, error level 1.5e-4)",
    worked=lambda: [lock(3, A=3), World(make("riverswim", S=3, horizon=4)), linear_world()],
    breaks=[Setting("frozen_actor", eta=0.0), Wrap("descends", part="mirror_step", by=lambda f: lambda w, q, e: f(w, q, -e))],
)  # fmt: skip
def regret_is_sublinear(world: World, room: Room) -> Margin:
    # a larger rate than the theorem's: at its own, the phase in which the actor is still near uniform fills all of this T
    features = {} if world.phi is None else {"phi": world.phi}
    found, width = slope(curves(room, "Nora", world, 80, 48, eta=4.0, **features).gaps)
    return Margin(0.75 - found - width, 0.0)


@claim(
    method=METHOD, source=f"{PAPER}: what optimism is for", level=Level.STATISTICAL, rooms=("scaled",),
    statement="on a lock of eight digits the actor-critic without optimism and without data settles for the bait: its regret "
    "grows with a log-log slope above 0.8, that of the optimistic one with a slope below 0.65 and to less, intervals included "
    "(32 runs, error level 1.5e-4)",
    breaks=[NO_BONUS],
)  # fmt: skip
def without_optimism_the_bait_wins(_: None, room: Room) -> Margin:
    plain = _sound(8, 2, 0.15, 120, 32, bonus_scale=0.0, lam=0.3)
    optimistic = curves(room, "Nora", lock(8), 120, 32, bonus_scale=2.0, lam=0.3)
    (linear, width), (rate, half) = slope(plain.gaps), slope(optimistic.gaps)
    return Margin.worst([
        less(optimistic.settled, plain.settled), Margin(linear - width - 0.8, 0.0), Margin(0.65 - rate - half, 0.0)
    ])  # fmt: skip


@claim(
    method=METHOD, source=f"{PAPER}: offline data in place of optimism", level=Level.STATISTICAL, rooms=("scaled",),
    statement="on a lock of three digits out of eight the actor-critic without optimism settles for the bait, and with 60 "
    "offline episodes it does not (24 runs, error level 5e-5)",
    breaks=[DATA_IGNORED],
)  # fmt: skip
def offline_data_replace_optimism(_: None, room: Room) -> Margin:
    T, world = 80, lock(3, 0.3, 8)
    data = behaviour_episodes(world.model, "half-optimal", 60)
    return less(
        curves(room, "Noah", world, T, RUNS, offline=data).settled, _sound(3, 8, 0.3, T, RUNS, bonus_scale=0.0).settled
    )
