"""Claims about the policy emulator: exact on exact statistics, of rate n^(-1/2) on samples, wrong where blocks merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polytheory.access import HybridResets
from polytheory.models.layered import uniform_resets
from polytheory.policy_classes import random_policies
from polytheory.proofs_check.claims import Level, Line, Margin, Setting, Wrap, claim
from polytheory.proofs_check.exploration.agnostic_instances import Case, case_of
from polytheory.proofs_check.exploration.agnostic_oracles import values
from polytheory.proofs_check.exploration.coverage_claims import _emissions
from polytheory.proofs_check.exploration.selection_claims import METHOD

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

MODULE = "plhr_parts"


def small() -> Case:
    """Two observations for each latent state, 8 policies: cheap to list."""
    return case_of("block-two-state", random_policies(3, 4, 2, size=8), emission=(0.75, 0.25))


@claim(
    method=METHOD, source="krishnamurthy2025, policy emulators", level=Level.PROPERTY,
    statement="with the latent transitions and emission frequencies themselves, the emulator has the exact value of every "
    "policy",
    worked=lambda: [small(), case_of("block-two-state", random_policies(3, 8, 2, size=4))], generated=_emissions,
    breaks=[
        Line("no_future", room="reference", module=MODULE, old="rewards[h] / count + np.einsum",
             new="rewards[h] / count + 0 * np.einsum"),
        Line("no_future_scaled", room="scaled", module=MODULE, old="[..., None, :, :] + torch.einsum",
             new="[..., None, :, :] + 0 * torch.einsum"),
        Line("one_action_for_a_block", room="reference", module=MODULE, old="own = np.eye(rewards.shape[2])[actions[:, h]]",
             new="own = np.eye(rewards.shape[2])[actions[:, h, :1] + 0 * actions[:, h]]"),
        Line("one_action_for_a_block_scaled", room="scaled", module=MODULE, old="one_hot(actions[:, h], A)",
             new="one_hot(actions[:, h, :1] + 0 * actions[:, h], A)"),
    ],
)  # fmt: skip
def exact_statistics_give_exact_values(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    X = n // 2
    emission = case.start[:X]  # the start is latent state 0
    law = np.zeros((2, n))
    law[0, :X] = law[1, X:] = emission
    latent = case.P.reshape(H, 2, X, A, 2, X)[:, :, 0].sum(axis=-1)  # [H, c, a, c']
    pool = np.repeat(law[None], H, axis=0) * 100.0
    pool[0, 1] = 0.0  # never started from
    tried = np.full((H, 2, A), 7.0)
    found = room.parts.emulated_values(pool, tried, 7 * latent, 7 * case.r.reshape(H, 2, X, A)[:, :, 0], case.actions)
    return Margin.equal(found, values(case), case.rounding)


@claim(
    method=METHOD, source="krishnamurthy2025", level=Level.PROPERTY,
    statement="an observation joins the nearest cluster within the tolerance, in sup norm, and no other; fingerprints are "
    "means over "
    "repetitions, entry by entry",
    worked=lambda: [0, 1, 2],
    breaks=[
        Line("first_cluster", room="reference", module=MODULE, old="c = int(np.argmin(distance))", new="c = 0"),
        Line("first_cluster_scaled", room="scaled", module=MODULE, old="c = int(distance.argmin())", new="c = 0"),
        Line("always_joins", room="reference", module=MODULE, old="if distance[c] <= tolerance else -1", new="if True else -1"),
        Line("always_joins_scaled", room="scaled", module=MODULE, old="if float(distance[c]) <= tolerance else -1",
             new="if True else -1"),
        Wrap("order_of_rollouts", part="fingerprint_means",
             by=lambda f: lambda r, k, t, a: f(r.reshape(k, -1, t * a).swapaxes(1, 2).reshape(-1), k, t, a)),
    ],
)  # fmt: skip
def decoding_is_nearest_neighbour(seed: int, room: Room) -> Margin:
    rng = np.random.default_rng(seed)
    centres, found = rng.random((3, 4)), []
    for mark in rng.random((20, 4)):
        distance = [max(abs(a - b) for a, b in zip(mark, centre, strict=True)) for centre in centres]
        best = int(np.argmin(distance)) if min(distance) <= 0.35 else -1
        found.append(room.parts.nearest(mark, centres, 0.35) == best)
    returns = rng.random(2 * 3 * 2 * 5)
    means = room.parts.fingerprint_means(returns, 2, 3, 2)
    expected = [[returns[((k * 3 + t) * 2 + a) * 5 :][:5].mean() for t in range(3) for a in range(2)] for k in range(2)]
    return Margin.worst([Margin.proved(all(found)), Margin.equal(means, expected, 1e-15)])


def error(case: Case, room: Room, transitions: int, n: int) -> np.ndarray:
    """Root mean square error of the emulated values over members and replicas."""
    access = HybridResets(case.model, reset=uniform_resets(case.sizes))
    settings = {
        "policies": case.policies,
        "rollouts": 100,
        "tolerance": 0.15,
        "draws": transitions,
        "transitions": transitions,
    }
    trace = room.run("Plhr", access, steps=2 * case.sizes.H, n=n, seed=2, **settings)
    made = room.make("Plhr", **settings)
    found = [np.atleast_2d(room.call(made.values, state)) for state in trace.raw]
    return np.concatenate(found) - values(case)


@claim(
    method=METHOD, source="krishnamurthy2025, emulator error", level=Level.STATISTICAL, rooms=("scaled",),
    statement="the emulated values of 20 replicas err by transitions^(-1/2): 16 times as many make the root mean square "
    "error 4 times as "
    "small (between 1.7 and 9.5: error level 1e-4), and the member picked loses at most twice the largest error",
    worked=lambda: [small()],
    breaks=[
        Setting("blocks_merge", tolerance=10.0),
        Line("no_future_scaled", module=MODULE, old="[..., None, :, :] + torch.einsum",
             new="[..., None, :, :] + 0 * torch.einsum"),
    ],
)  # fmt: skip
def the_emulator_converges(case: Case, room: Room) -> Margin:
    n = 20
    few, many = error(case, room, 25, n), error(case, room, 400, n)
    ratio = float(np.sqrt((few**2).mean() / (many**2).mean()))
    truth = values(case)
    regret = truth.max() - truth[(truth + many).argmax(axis=1)]
    # members of a replica share its data: 20 independent squares at least on either side, so that the log of the root of
    # their ratio has standard deviation at most sqrt(2 / 20 + 2 / 20) / 2 = 0.224; 3.9 of them
    band = 0.87
    return Margin.worst([
        Margin(band - abs(float(np.log(ratio / 4))), 0.0), Margin.at_most(regret, 2 * np.abs(many).max(axis=1), case.rounding),
    ])  # fmt: skip
