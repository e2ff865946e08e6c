"""The exact probe: a language model whose sequences, groups and pairs are all listed, so that expectations are sums.

Losses are pulled back through either room's parts; what they are compared with comes from sums over sequences.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import require
from polytheory.models.tabular_lm import TabularLM
from polytheory.parts import Unit
from polytheory.proofs_check.claims import Room
from polytheory.trajectories import Trajectories

EXACT = 1e-12  # sums of up to 10^4 products of numbers of size 1 and below, in double precision


@dataclass(frozen=True, eq=False)
class Probe:
    """A tiny language model with logits [C, V] of the policy, an old policy and a reference, and a reward [N]."""

    lm: TabularLM
    theta: Float[np.ndarray, "C V"]
    old: Float[np.ndarray, "C V"]
    ref: Float[np.ndarray, "C V"]
    reward: Float[np.ndarray, " N"]
    worked: bool = False

    @cached_property
    def p(self) -> Float[np.ndarray, " N"]:
        """Probability of every sequence under the policy."""
        return self.lm.probs(self.theta)

    @property
    def J(self) -> float:
        """Expected reward."""
        return float(self.p @ self.reward)

    @cached_property
    def gradient(self) -> Float[np.ndarray, "C V"]:
        """Exact gradient of the expected reward."""
        return self.lm.gradient(self.theta, self.reward)

    def columns(self, rows: Int[np.ndarray, " n"] | None = None, *, on_policy: bool = True) -> dict[str, Any]:
        """The columns of sequences by index (default: all N, each once); ``log_probs_old`` are current if ``on_policy``."""
        rows = np.arange(self.lm.N) if rows is None else rows
        now, old, ref = (self.lm.token_log_probs(x)[rows] for x in (self.theta, self.old, self.ref))
        return {
            "rows": rows, "states": self.lm.context[rows], "actions": self.lm.tokens[rows], "mask": self.lm.mask[rows],
            "score": self.reward[rows], "group": np.zeros(len(rows), dtype=np.int64), "log_probs": now,
            "log_probs_old": now if on_policy else old, "log_probs_ref": ref, "log_probs_sampler": old,
        }  # fmt: skip

    def groups(self, size: int) -> tuple[Float[np.ndarray, " g"], dict[str, Any]]:
        """Probabilities of all N^size groups, and one batch that holds them all."""
        members = np.array(list(itertools.product(range(self.lm.N), repeat=size)))
        columns = self.columns(members.ravel())
        columns["group"] = np.repeat(np.arange(len(members)), size)
        return np.prod(self.p[members], axis=1), columns

    def in_logits(self, rows: Int[np.ndarray, " n"], slopes: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "C V"]:
        """A gradient in token log-probs as one in the logits."""
        by_sequence = np.zeros((self.lm.N, self.lm.T))
        np.add.at(by_sequence, rows, slopes)
        return np.tensordot(by_sequence, self.lm.token_scores(self.theta), axes=2)

    def as_one_token(self) -> dict[str, Any]:
        """Every whole sequence as if it were one token: columns [N, 1]."""
        now, ref = (self.lm.log_probs(x)[:, None] for x in (self.theta, self.ref))
        mask = np.ones((self.lm.N, 1), dtype=bool)
        return {"mask": mask, "log_probs": now, "log_probs_old": now, "log_probs_ref": ref}


def toy(reward: str = "odd", *, length: int = 3) -> Probe:
    """Three tokens, at most 3 (or ``length``) of them: the instance whose numbers are quoted in the claims."""
    lm = TabularLM(3, length)
    c, v = np.indices((lm.C, lm.V))
    rewards = {
        "odd": lm.reward(lambda y: y.count(1) % 2),
        "ones": lm.reward(lambda y: y.count(1) - 0.5 * len(y)),
    }
    theta = np.sin(3.0 * c + v + 1)
    return Probe(
        lm, theta, theta + 0.3 * np.cos(5.0 * c + 2 * v), 0.5 * np.cos(2.0 * c + v), rewards[reward], length == 3
    )


def probes(*, max_vocabulary: int = 3, max_length: int = 3, binary: bool = False) -> Any:
    """A Hypothesis strategy of probes: peaked and flat policies, zero, equal and tied rewards, short sequences."""
    st = require("hypothesis.strategies", "conform")

    def make(vocabulary: int, length: int, seed: int, scale: float, kind: str) -> Probe:
        lm, rng = TabularLM(vocabulary, length), np.random.default_rng(seed)
        theta, ref = scale * rng.normal(size=(2, lm.C, lm.V))
        rewards = {
            "binary": rng.integers(0, 2, lm.N).astype(float),
            "ties": rng.integers(-1, 2, lm.N) / 2,
            "zero": np.zeros(lm.N),
            "real": rng.normal(size=lm.N),
        }
        return Probe(lm, theta, theta + 0.3 * rng.normal(size=theta.shape), ref, rewards[kind])

    kinds = ["binary"] if binary else ["real", "binary", "ties", "zero"]
    return st.builds(
        make, st.integers(2, max_vocabulary), st.integers(1, max_length), st.integers(0, 10**6),
        st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.sampled_from(kinds),
    )  # fmt: skip


def pull(
    room: Room, part: str, columns: dict[str, Any], weights: Float[np.ndarray, "..."] | None = None, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Terms of a loss part, and the gradient of ``sum(weights * terms)`` in the current log-probs; weights default to 1."""
    f = room.part(part)
    columns = {name: x for name, x in columns.items() if name != "rows"}
    if room.name == "reference":
        terms = f(columns, **settings)
        return terms.value, terms.pullback(np.ones_like(terms.value) if weights is None else weights)["log_probs"]
    torch = require("torch", "scaled")
    inside = room.inward(columns)
    inside["log_probs"].requires_grad_(True)
    terms = f(inside, **settings)
    w = torch.ones_like(terms) if weights is None else torch.as_tensor(weights)
    (gradient,) = torch.autograd.grad((w * terms).sum(), inside["log_probs"], allow_unused=True)
    gradient = torch.zeros_like(inside["log_probs"]) if gradient is None else gradient
    return terms.detach().numpy(), gradient.numpy()


def row_weights(room: Room, mask: np.ndarray, probability: np.ndarray, normalisation: str) -> np.ndarray:
    """Weights of an infinite batch: those of the room on one copy of each row, times n and the row's probability."""
    counts = room.part("Counts")(tokens=int(mask.sum()), sequences=len(mask))
    w = room.parts.weights(mask, Unit.TOKEN, counts, normalisation=normalisation, max_length=mask.shape[1])
    return w * probability[:, None] * len(mask)


def group_gradient(
    probe: Probe, room: Room, size: int, advantages: str, loss: str = "reinforce", **settings: Any
) -> Float[np.ndarray, "C V"]:
    """The mean over all groups of the *ascent* direction ``(1/G) sum_i A_i grad log pi(y_i)``, through the room's parts."""
    p, columns = probe.groups(size)
    written = getattr(room.parts, advantages)({k: columns[k] for k in ("score", "group")}, **settings)
    _, slopes = pull(
        room,
        loss,
        {**columns, "advantages": written["advantages"]},
        np.repeat(p / size, size)[:, None] * columns["mask"],
    )
    return -probe.in_logits(columns["rows"], slopes)


class Scripted:
    """An access that hands out completions from a list instead of sampling: replica i gets the sequences ``rows[i]``."""

    def __init__(self, probe: Probe, rows: Sequence[Sequence[int]]):
        self.probe, self.rows, self.replicas = probe, np.asarray(rows), len(rows)
        self.spec = SimpleNamespace(horizon=probe.lm.T, gamma=1.0, name="scripted")

    def rollouts(self, policy: Any, requests: Any, key: Any) -> Trajectories:
        """The listed completions, with rewards on their last tokens; NumPy (the caller converts)."""
        lm, rows = self.probe.lm, self.rows.ravel()
        rewards = np.zeros((len(rows), lm.T))
        rewards[np.arange(len(rows)), lm.lengths[rows] - 1] = self.probe.reward[rows]
        sampler = lm.token_log_probs(self.probe.theta)[rows]
        return Trajectories(lm.context[rows], lm.tokens[rows], rewards, lm.mask[rows], sampler)


def steps_of(
    room: Room, probe: Probe, rows: Sequence[Sequence[int]], *, algorithm: str = "Grpo", **settings: Any
) -> Float[np.ndarray, "n C V"]:
    """The parameters' change in one step of an algorithm for each listed group of completions, as logits of contexts."""
    policy = room.part("TabularSoftmax")
    start = np.vstack([probe.theta, np.zeros(probe.lm.V)]).ravel()  # the end state has logits too
    made = room.make(
        algorithm,
        policy=policy(room.inward(room.batch(start)), probe.lm.C + 1, probe.lm.V),
        group_size=len(rows[0]),
        **settings,
    )
    if room.name == "reference":
        scripts = [Scripted(probe, [own]) for own in rows]
        ends = [made.step(made.init(script, 0), script)[0].theta for script in scripts]
        change = np.stack(ends) - start
    else:
        script = Scripted(probe, rows)
        inward = SimpleNamespace(
            spec=script.spec, replicas=script.replicas, rollouts=lambda *a: room.inward(script.rollouts(*a))
        )
        change = made.step(made.init(inward, 0), inward)[0].theta.numpy() - start
    return change.reshape(len(rows), probe.lm.C + 1, probe.lm.V)[:, :-1]


def with_theta(probe: Probe, theta: Float[np.ndarray, "C V"]) -> Probe:
    """The same probe at other logits."""
    return replace(probe, theta=theta, worked=False)
