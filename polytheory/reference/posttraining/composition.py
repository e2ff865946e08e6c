"""A post-training method as a list of parts, and the driver that runs such a list on a token MDP.

One step: sample completions under ``theta_old``, compute the frozen columns in one pass, run the parts that are not losses
in the order of the recipe, then make ``updates`` gradient steps on the weighted sum of the losses. Current log-probs are
computed anew for each of these steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind
from polytheory.reference.posttraining.base import NORMALISATIONS, PARTS, Counts, weights
from polytheory.reference.posttraining.micro_batches import micro_batches
from polytheory.reference.posttraining.updates import Sgd
from polytheory.rollouts import checked
from polytheory.streams import row_ids

Columns = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """One entry of a recipe.

    Fields:
        part: name in the registry.
        settings: keyword arguments of the part.
        weight: factor of a loss in the total.
        stateful: the part is called as ``part(columns, state, **settings) -> (columns, state)``; its state is None at
            first, lives in ``memory[part]`` of the run's state, and must be a tree of arrays and numbers.
    """

    part: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    stateful: bool = False


@dataclass(eq=False)
class CompositionState:
    """State of every composition.

    Fields: ``theta`` [d] parameters; ``theta_old`` [d] those that sample (``behaviour`` says how they follow); ``t`` steps
    made; ``seed`` and ``replica`` name the random numbers; ``memory`` state of parts by name.
    """

    theta: Float[np.ndarray, " d"]
    theta_old: Float[np.ndarray, " d"]
    t: int
    seed: int
    replica: int  # in the scaled room int64 [n]: every replica names its own stream
    memory: dict[str, Any]  # in the scaled room a list of such, one per replica


def evaluate(
    columns: Mapping[str, Any],
    uses: Sequence[Use],
    *,
    normalisation: str = "seq_mean",
    max_length: int | None = None,
    counts: Counts | None = None,
) -> tuple[float, dict[str, np.ndarray]]:
    """The weighted sum of the losses among ``uses``, and its gradient in each ``now`` column.

    ``counts`` are those of the whole accumulated batch when ``columns`` is a micro-batch of it; the sums over
    micro-batches are then the values of the whole batch. Other parts among ``uses`` are left alone.
    """
    counts = counts or Counts.of(columns)
    total, gradient = 0.0, {}
    for use in uses:
        part = PARTS[use.part]
        if part.kind != Kind.LOSS:
            continue
        terms = part(columns, **use.settings)
        w = (
            use.weight
            * weights(columns["mask"], part.unit, counts, normalisation=normalisation, max_length=max_length)[
                : len(terms.value)
            ]
        )
        total += float((w * terms.value).sum())
        for name, g in terms.pullback(w).items():
            gradient[name] = gradient.get(name, 0.0) + g
    return total, gradient


@dataclass(frozen=True, eq=False)
class Composition(ABC):
    """What all methods of the family share; subclasses say which parts they consist of (`recipe`).

    Fields:
        policy: where to start, and the reference policy of ``log_probs_ref``. Called with a state it is the policy at the
            state's parameters.
        prompts: groups sampled in a round, >= 1 (on a token MDP with one prompt all groups have that prompt).
        rounds: most rounds of sampling in a step, >= 1; a method that refills says when it has `enough`.
        group_size: completions of a group, G >= 1.
        step_size: of plain gradient descent on the loss, > 0.
        updates: gradient steps on the same samples, >= 1.
        normalisation: how token losses are averaged, one of `base.NORMALISATIONS`.
        max_length: divisor of the normalisation "constant"; None takes the horizon.
        update: where to sample, the direction and the step, see `updates`; None is plain gradient descent.
        micro_batch_size: most rows in one backward pass of the loss, >= 1; groups, bundles and pairs are never split. None: all
            rows. It changes no gradient (HARPG's Hessian-vector product takes its rows at once).

    Raises `SettingError`, `UnknownNameError` for values outside of these and `ColumnError` for a recipe in which a part
    reads what nobody wrote before.
    """

    policy: Any
    prompts: int = 1
    rounds: int = 1
    group_size: int = 8
    step_size: float = 0.1
    updates: int = 1
    normalisation: str = "seq_mean"
    max_length: int | None = None
    update: Any = None
    micro_batch_size: int | None = None

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    name: ClassVar[str] = ""
    GIVEN: ClassVar[tuple[str, ...]] = (
        "states", "actions", "mask", "score", "group", "log_probs_sampler", "log_probs_old", "log_probs_ref", "log_probs"
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("prompts", "rounds", "group_size", "updates"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise SettingError(
                f"micro_batch_size = {self.micro_batch_size}; it must be at least 1, or None for all rows"
            )
        if not (self.step_size > 0 and np.isfinite(self.step_size)):
            raise SettingError(f"step_size = {self.step_size}; a step size is positive and finite, try 0.1")
        if self.normalisation not in NORMALISATIONS:
            raise UnknownNameError("normalisation", self.normalisation, NORMALISATIONS)
        PARTS.check_order([use.part for use in self.recipe()], self.GIVEN)
        if self.update is not None:
            self.update.check(self)

    @abstractmethod
    def recipe(self) -> tuple[Use, ...]:
        """The parts in order."""

    def init(self, access: Any, seed: int, replica: int = 0) -> CompositionState:
        """At the starting parameters, nothing sampled yet. Raises `SettingError` for a world without horizon."""
        if access.spec.horizon is None:
            raise SettingError(
                f"{access.spec.name or 'this world'} has no horizon; completions must end: take token-mdp or give a horizon"
            )
        theta = np.array(self.policy.theta, dtype=float)
        return CompositionState(theta, theta.copy(), 0, seed, replica, {})

    def sample(self, state: Any, access: Any) -> Columns:
        """The step's completions: rounds of ``prompts`` groups until there are `enough`."""
        columns = self.sample_round(state, access, 0)
        for i in range(1, self.rounds):
            if self.enough(columns):
                break
            more = self.sample_round(state, access, i)
            columns = {name: np.concatenate([columns[name], more[name]]) for name in columns}
        return columns

    def sample_round(self, state: Any, access: Any, i: int) -> Columns:
        """Completions of round ``i`` under ``theta_old``, with what the sampler knows about them."""
        n = self.prompts * self.group_size
        rows = i * n + np.arange(n)
        key = Key(state.seed, f"{self.name}/completions", state.t)
        ids = row_ids(state.replica, rows)
        traj = access.rollouts(self.policy.with_theta(state.theta_old), Requests(ids, access.spec.horizon), key)
        columns = {
            "states": traj.states, "actions": traj.actions, "mask": traj.mask, "score": traj.rewards.sum(axis=1),
            "group": rows // self.group_size, "log_probs_sampler": traj.log_probs_sampler,
        }  # fmt: skip
        return self.annotated(columns, Key(state.seed, self.name, state.t), ids, rows)

    def annotated(
        self, columns: Columns, key: Key, row_id: Int[np.ndarray, " n"], place: Int[np.ndarray, " n"]
    ) -> Columns:
        """Further columns that are drawn with the completions; ``place`` counts the rows of the step."""
        return columns

    def enough(self, columns: Columns) -> bool:
        """True when the completions so far will do (asked only where ``rounds`` > 1)."""
        return True

    def scored(self, columns: Columns, state: Any) -> Columns:
        """``columns`` with the frozen log-probs that the recipe reads."""
        old = self.log_probs(columns, state.theta_old)
        return {**columns, "log_probs_old": old, "log_probs_ref": self.log_probs(columns, self.policy.theta)}

    def log_probs(self, columns: Columns, theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, "n t"]:
        """Log-probs of the completions at ``theta``; 0 where masked."""
        found = self.policy.with_theta(theta).log_probs(columns["states"], columns["actions"])
        return np.where(columns["mask"], found, 0.0)

    def prepare(self, columns: Columns, memory: dict[str, Any]) -> tuple[Columns, dict[str, Any]]:
        """Run the parts of the recipe that are not losses."""
        memory = dict(memory)
        for use in self.recipe():
            part = PARTS[use.part]
            if part.kind == Kind.LOSS:
                continue
            if use.stateful:
                columns, memory[use.part] = part(columns, memory.get(use.part), **use.settings)
            else:
                columns = part(columns, **use.settings)
        return columns, memory

    def gradient(self, columns: Columns, theta: Float[np.ndarray, " d"]) -> tuple[float, Float[np.ndarray, " d"]]:
        """Loss at ``theta`` on prepared columns, and its gradient in ``theta``."""
        policy, counts = self.policy.with_theta(theta), Counts.of(columns)
        longest = self.max_length or columns["actions"].shape[1]  # sampled up to the horizon
        loss, gradient = 0.0, np.zeros_like(theta)
        for part in micro_batches(columns, self.micro_batch_size):
            now = {**part, "log_probs": self.log_probs(part, theta)}
            own, slopes = evaluate(
                now, self.recipe(), normalisation=self.normalisation, max_length=longest, counts=counts
            )
            weights = np.where(part["mask"], slopes["log_probs"], 0.0)
            loss, gradient = (
                loss + own,
                gradient + policy.score_sum(part["states"], part["actions"], weights).sum(axis=0),
            )
        return loss, gradient

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """One step of the `update`: sample once, prepare, move."""
        return (self.update or Sgd()).step(self, state, access)

    def collect(self, state: Any, access: Any) -> tuple[Columns, Columns, dict[str, Any]]:
        """Completions under ``theta_old`` as sampled, what the parts before the loss made of them, and their memory."""
        sampled = checked(self.scored(self.sample(state, access), state))
        return (sampled, *self.prepare(sampled, state.memory))

    def info(
        self, sampled: Columns, columns: Columns, loss: float, gradient: Float[np.ndarray, " d"]
    ) -> dict[str, Any]:
        """What every step logs."""
        return {
            "mean_return": float(sampled["score"][: self.prompts * self.group_size].mean()), "loss": loss,
            "gradient_norm": float(np.linalg.norm(gradient)), "rows": float(len(columns["mask"])),
        }  # fmt: skip

    def report(self, columns: Columns, theta: Float[np.ndarray, " d"]) -> Info:
        """Further numbers of a step to log, from its prepared columns and the parameters before it."""
        return {}

    def advanced(self, state: Any, theta: Float[np.ndarray, " d"], memory: dict[str, Any]) -> Any:
        """The state after the step."""
        old = self.behaviour(state.theta_old, theta, state.t)
        return CompositionState(theta, old, state.t + 1, state.seed, state.replica, memory)

    def behaviour(self, theta_old: Any, theta: Any, t: int) -> Any:
        """The parameters that sample in the next step: the newest ones, unless a method says otherwise."""
        return theta

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False
