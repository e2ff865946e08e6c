"""Claims about the actor: mirror ascent, resets, and the whole loop with the noise taken out."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.exploration.critic_claims import METHOD, NO_BONUS, OWN_POLICY, PAPER
from polytheory.proofs_check.exploration.oac_instances import ROUNDING, lift, lower, m0, random_table, worlds
from polytheory.reference.exploration.regret import certificate, greedy_policy, stage_q_values, value, visit_law

NO_RESET = Wrap(
    "no_reset", part="actor_update", by=lambda f: lambda w, q, due, eta, reset=True: f(w, q, due, eta, False)
)  # fmt: skip
ALWAYS = Wrap("switch_every_episode", part="switch_due", by=lambda f: lambda now, before: f(now + 1e3, before))
NEVER = Wrap("switch_never", part="switch_due", by=lambda f: lambda now, before: f(now, now + 1.0))
FORGETFUL = Wrap("forgets", part="mirror_step", by=lambda f: lambda w, q, eta: f(0 * w, q, eta))
DESCENT = Wrap("descends", part="mirror_step", by=lambda f: lambda w, q, eta: f(w, q, -eta))
FLAT = Wrap("too_flat", part="softmax", by=lambda f: lambda x: f(0.25 * x))


def _losses() -> Any:
    """Hypothesis strategy: critics of one state over time, in [0, 2], and a learning rate."""
    st = require("hypothesis.strategies", "conform")

    @st.composite
    def make(draw: Any) -> tuple[np.ndarray, float]:
        T, A = draw(st.integers(1, 30)), draw(st.integers(1, 4))
        return random_table(draw, (T, A), 0.0, 2.0), draw(st.sampled_from([0.05, 0.3, 1.0, 3.0]))

    return make()


def _worked_losses() -> list[tuple[np.ndarray, float]]:
    turns = np.tile([[1.0, 0.0], [0.0, 1.0]], (50, 1))
    constant = np.tile([[1.0, 0.0, 0.5]], (200, 1))
    return [(constant, 0.2), (turns, 0.2), (2 * turns, 0.05)]


@claim(
    method=METHOD, source=f"{PAPER}, actor's regret; exponential weights with Hoeffding's lemma", level=Level.PROPERTY,
    statement="in every state and for any critics in [0, B]: sum_t <pi* - pi_t, f_t> <= log|A| / eta + eta B^2 T / 8",
    worked=_worked_losses, generated=_losses, breaks=[FORGETFUL, DESCENT, FLAT],
)  # fmt: skip
def mirror_ascent_keeps_up_with_every_action(case: tuple[np.ndarray, float], room: Room) -> Margin:
    fs, eta = case
    log_weights, earned = np.zeros(fs.shape[1]), 0.0
    for f in fs:
        earned += float(room.parts.softmax(log_weights) @ f)
        log_weights = room.parts.mirror_step(log_weights, f, eta)
    B, T = float(np.ptp(fs)), len(fs)
    regret = float(fs.sum(0).max()) - earned
    return Margin.at_most(regret, np.log(fs.shape[1]) / eta + eta * B**2 * T / 8, ROUNDING)


@claim(
    method=METHOD, source=f"{PAPER}; derived", level=Level.PROPERTY,
    statement="softmax(n eta f) is within log|A| / (n eta) of the best action, and nears it as n grows",
    worked=_worked_losses, generated=_losses,
    breaks=[FLAT, Wrap("constant_policy", part="softmax", by=lambda f: lambda x: f(0 * x))],
)  # fmt: skip
def softmax_follows_a_fixed_critic(case: tuple[np.ndarray, float], room: Room) -> Margin:
    f, eta = np.asarray(case[0][0]), case[1]
    behind = [float(f.max() - room.parts.softmax(n * eta * f) @ f) for n in (1, 5, 20, 2000)]
    bounds = [np.log(len(f)) / (n * eta) for n in (1, 5, 20, 2000)]
    worked = room.parts.softmax(10 * 0.2 * np.array([1.0, 0.5, 0.0]))
    return Margin.worst([
        Margin.at_most(behind, bounds, ROUNDING), Margin.at_most(behind[1:], behind[:-1], ROUNDING),
        Margin.equal(worked, [0.66524096, 0.24472847, 0.09003057], 0.5e-8 + 1e-12),
    ])  # fmt: skip


@claim(
    method=METHOD, source=f"{PAPER}, Algorithm; derived", level=Level.PROPERTY,
    statement="between two switches the actor is softmax(n eta f) of the frozen critic, n the updates since the reset: nothing "
    "of an older critic is left",
    worked=lambda: worlds()[2::2],
    breaks=[NO_RESET, Setting("reset_off", reset=False), FORGETFUL, Wrap("resets_always", part="actor_update",
            by=lambda f: lambda w, q, due, eta, reset=True: f(w, q, due | True, eta, reset))],
)  # fmt: skip
def actor_is_a_function_of_the_frozen_critic(world: Any, room: Room) -> Margin:
    settings = {**world.settings, "episodes": 25, "eta": 0.4} | ({} if world.phi is None else {"phi": world.phi})
    trace = room.run("Nora", world.online(), steps=25, n=2, **settings)
    n = trace.state["since_reset"].astype(float)[:, None, None, None]
    return Margin.equal(trace.state["log_weights"], n * 0.4 * trace.state["f"], 40 * ROUNDING)


def noise_free(
    room: Room, T: int, *, reset: bool = True, c: float = 0.2, eta: float = 0.5, accounts: bool = False
) -> dict[str, Any]:
    """The loop on exact expectations: visits are occupancies, transition estimates are the truth."""
    model, caps, lam = m0(), np.array([3.0, 2.0, 1.0]), 1.0
    P, r = np.stack([np.asarray(model.P_at(h)) for h in range(3)]), np.stack([model.r_at(h) for h in range(3)])
    best, pi_star = float(model.mu @ stage_q_values(model)[0].max(-1)), greedy_policy(stage_q_values(model))
    parts, n, log_weights = room.parts, np.zeros((3, 2, 2)), np.zeros((3, 2, 2))

    def critic() -> np.ndarray:
        seen = (n, P * (lam + n)[..., None], 0 * n)
        return lower(room, parts.optimistic_critic(tuple(lift(room, x) for x in seen), None, r, np.full(3, c), caps))

    f, before, out = (
        critic(),
        lower(room, parts.information(lift(room, n), None)),
        {"gaps": [], "switches": [], "short": []},
    )
    since = 0
    for t in range(T):
        pi = lower(room, parts.softmax(lift(room, log_weights)))
        out["gaps"].append(best - value(model, pi))
        if accounts:
            behind = 5 * min(3.0, np.log(2) / (since * eta)) if since else np.inf  # 2 H - 1 = 5 sums
            out["short"].append((out["gaps"][-1], certificate(model, f, pi, pi_star), behind))
        n = n + visit_law(model, pi)
        now = lower(room, parts.information(lift(room, n), None))
        due = bool(np.all(parts.switch_due(now, before)))
        if due:
            f, before = critic(), now
            out["switches"].append(t + 1)
            since = 0
        log_weights = lower(room, parts.actor_update(lift(room, log_weights), lift(room, f), np.array(due), eta, reset))
        since += 1
    return {**out, "n": n}


@claim(
    method=METHOD, source="worked numbers, computed independently from the definition", level=Level.PROPERTY,
    statement="50 noise-free episodes: regret 22.03119011, switches at 1, 2, 4, 6, 8, 11, 14, 18, 23, 29, 36, 45; without "
    "resets 4.87738911, switches at 1, 2, 4, 6, 9, 13, 18, 25, 34, 47",
    breaks=[NO_RESET, NO_BONUS, ALWAYS, NEVER, OWN_POLICY, FORGETFUL],
)  # fmt: skip
def noise_free_run_is_the_worked_one(_: None, room: Room) -> Margin:
    margins = []
    for reset, regret, switches in (
        (True, 22.03119011, [1, 2, 4, 6, 8, 11, 14, 18, 23, 29, 36, 45]),
        (False, 4.87738911, [1, 2, 4, 6, 9, 13, 18, 25, 34, 47]),
    ):
        found = noise_free(room, 50, reset=reset)
        margins.append(Margin.equal([sum(found["gaps"])], [regret], 0.5e-8 + ROUNDING))
        margins.append(Margin.proved(found["switches"] == switches))
        if reset:
            margins.append(Margin.equal(found["n"][0, 0], [18.34557021, 31.65442979], 0.5e-8 + ROUNDING))
    return Margin.worst(margins)


@claim(
    method=METHOD, source=f"{PAPER}; derived", level=Level.PROPERTY,
    statement="every episode of an optimistic run loses at most the certificate bellman + tracking; with resets the tracking "
    "is at most (2 H - 1) min(H, log|A| / (n eta))",
    breaks=[NO_BONUS, FLAT, DESCENT, OWN_POLICY],
)  # fmt: skip
def episodes_are_certified(_: None, room: Room) -> Margin:
    margins = []
    for gap, found, behind in noise_free(room, 60, c=0.02, accounts=True)["short"]:
        margins.append(Margin.at_most(gap, found.bound, ROUNDING))
        if np.isfinite(behind):
            margins.append(Margin.at_most(found.tracking_pi + found.tracking_star, behind, ROUNDING))
        # the certificate needs f >= T f, which shows in the bellman term: on true transitions it is the bonus, clipped
        margins.append(Margin.at_most(1e-3, found.bellman, ROUNDING))
    return Margin.worst(margins)
