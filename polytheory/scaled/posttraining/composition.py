"""A post-training method as a list of parts, and the driver that runs such a list on a token MDP, many replicas at once.

A replica is one training run. All replicas sample and differentiate together; parts see the columns of one replica, as
they would in a training run of its own, so that batch statistics never mix runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind
from polytheory.rollouts import checked
from polytheory.scaled.posttraining.base import NORMALISATIONS, PARTS, Counts, weights
from polytheory.scaled.posttraining.micro_batches import micro_batches
from polytheory.scaled.posttraining.updates import Sgd
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
            first, lives in ``memory[replica][part]``, and must be a tree of arrays and numbers.
    """

    part: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    stateful: bool = False


@dataclass(eq=False)
class CompositionState:
    """State of every composition, n replicas.

    Fields: ``theta`` [n, d] parameters; ``theta_old`` [n, d] those that sample (``behaviour`` says how they follow); ``t``
    steps made; ``seed`` and ``replica`` int64 [n] name the random numbers; ``memory`` state of parts by name, one dict
    per replica.
    """

    theta: Float[torch.Tensor, "n d"]
    theta_old: Float[torch.Tensor, "n d"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]
    memory: list[dict[str, Any]]


def evaluate(
    columns: Mapping[str, Any],
    uses: Sequence[Use],
    *,
    normalisation: str = "seq_mean",
    max_length: int | None = None,
    counts: Counts | None = None,
) -> torch.Tensor:
    """The weighted sum of the losses among ``uses``, through which autograd reaches the ``now`` columns.

    ``counts`` are those of the whole accumulated batch when ``columns`` is a micro-batch of it; the sums over
    micro-batches are then the values of the whole batch. Other parts among ``uses`` are left alone.
    """
    counts = counts or Counts.of(columns)
    total: Any = 0.0
    for use in uses:
        part = PARTS[use.part]
        if part.kind != Kind.LOSS:
            continue
        terms = part(columns, **use.settings)
        # small weights and long sums need more digits than bfloat16 has
        dtype = torch.promote_types(terms.dtype, torch.float32)
        w = weights(
            columns["mask"], part.unit, counts, normalisation=normalisation, max_length=max_length, dtype=dtype
        )[: len(terms)]
        total = total + use.weight * (w * terms).sum()
    return total


@dataclass(frozen=True, eq=False)
class Composition(ABC):
    """What all methods of the family share; subclasses say which parts they consist of (`recipe`).

    Fields:
        policy: where to start, with ``theta`` [n, d] or [1, d] (shared by all replicas), and the reference policy of
            ``log_probs_ref``. Called with a state it is the policy at the state's parameters.
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
        theta, n = self.policy.theta.detach(), access.replicas
        if len(theta) not in (1, n):
            raise SettingError(f"theta is [{len(theta)}, d] but the access has {n} replicas; give 1 row or {n}")
        theta = theta.expand(n, -1).clone().to(getattr(access, "device", theta.device))
        return CompositionState(theta, theta.clone(), 0, seed, replica + torch.arange(n), [{} for _ in range(n)])

    def sample(self, state: Any, access: Any) -> Columns:
        """The step's completions: rounds of ``prompts`` groups until every replica has `enough`; rows replica-major.

        A replica that needs no more gets the later rounds too, as the replicas sample in one call; what it takes from them
        is up to its filter, but the meter counts what was sampled: here more than in a run of its own.
        """
        R, columns = access.replicas, self.sample_round(state, access, 0)
        for i in range(1, self.rounds):
            if all(self.enough(own) for own in split(columns, R)):
                break
            more = self.sample_round(state, access, i)
            columns = {name: _joined(columns[name], more[name], R) for name in columns}
        return columns

    def sample_round(self, state: Any, access: Any, i: int) -> Columns:
        """Completions of round ``i`` under ``theta_old``, with what the sampler knows about them."""
        n, R = self.prompts * self.group_size, access.replicas
        rows = i * n + np.arange(n)
        key = Key(state.seed, f"{self.name}/completions", state.t)
        ids = row_ids(state.replica.numpy(force=True).repeat(n), np.tile(rows, R))
        traj = access.rollouts(self.policy.with_theta(state.theta_old), Requests(ids, access.spec.horizon), key)
        group = torch.from_numpy(np.tile(rows // self.group_size, R)).to(traj.mask.device)
        columns = {
            "states": traj.states, "actions": traj.actions, "mask": traj.mask, "score": traj.rewards.sum(1),
            "group": group, "log_probs_sampler": traj.log_probs_sampler,
        }  # fmt: skip
        return self.annotated(columns, Key(state.seed, self.name, state.t), ids, np.tile(rows, R))

    @property
    def samples_itself(self) -> bool:
        """True where every completion comes from the policy in training, so that any sampler of it will do."""
        return True

    def annotated(
        self, columns: Columns, key: Key, row_id: Int[np.ndarray, " n"], place: Int[np.ndarray, " n"]
    ) -> Columns:
        """Further columns that are drawn with the completions; ``place`` counts the rows of a replica's step."""
        return columns

    def enough(self, columns: Columns) -> bool:
        """True when one replica's completions so far will do (asked only where ``rounds`` > 1)."""
        return True

    def scored(self, columns: Columns, state: Any) -> Columns:
        """``columns`` with the frozen log-probs that the recipe reads."""
        ref = self.policy.theta.to(state.theta).expand_as(state.theta)
        with torch.no_grad():
            old = self.log_probs(columns, state.theta_old)
            return {**columns, "log_probs_old": old, "log_probs_ref": self.log_probs(columns, ref)}

    def log_probs(self, columns: Columns, theta: Float[torch.Tensor, "R d"]) -> Float[torch.Tensor, "n t"]:
        """Log-probs of the completions at ``theta``, differentiable in it; 0 where masked."""
        found = self.policy.with_theta(theta).log_probs(columns["states"], columns["actions"])
        return torch.where(columns["mask"], found, torch.zeros_like(found))

    def prepare(self, columns: Columns, memory: dict[str, Any]) -> tuple[Columns, dict[str, Any]]:
        """Run the parts of the recipe that are not losses on the columns of one replica."""
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

    def gradient(
        self, replicas: Sequence[Columns], theta: Float[torch.Tensor, "R d"]
    ) -> tuple[Float[torch.Tensor, " R"], Float[torch.Tensor, "R d"]]:
        """Losses at ``theta`` on the prepared columns of each replica, and their gradients."""
        theta = theta.detach().requires_grad_(True)
        counts = [Counts.of(columns) for columns in replicas]
        loss, gradient = theta.detach().new_zeros(len(theta)), torch.zeros_like(theta)
        # one piece of every replica at a time; replicas with fewer pieces have none
        for pieces in zip_longest(*(micro_batches(columns, self.micro_batch_size) for columns in replicas)):
            own = torch.stack([self._loss(part, theta[i : i + 1], counts[i]) for i, part in enumerate(pieces)])
            (slope,) = torch.autograd.grad(own.sum(), theta)
            loss, gradient = loss + own.detach(), gradient + slope
        return loss, gradient

    def _loss(self, columns: Columns | None, theta: Float[torch.Tensor, "1 d"], counts: Counts) -> torch.Tensor:
        if columns is None or not len(columns["mask"]):  # without a row there is nothing to learn
            return 0.0 * theta.sum()
        now = {**columns, "log_probs": self.log_probs(columns, theta)}
        longest = self.max_length or columns["actions"].shape[1]  # sampled up to the horizon
        return evaluate(now, self.recipe(), normalisation=self.normalisation, max_length=longest, counts=counts)

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """One step of the `update`: sample once, prepare, move; reports [n] values."""
        return (self.update or Sgd()).step(self, state, access)

    def collect(self, state: Any, access: Any) -> tuple[Columns, list[Columns], list[dict[str, Any]]]:
        """Completions under ``theta_old`` as sampled, and for each replica what the parts before the loss made of them, and
        their memory."""
        sampled = checked(self.scored(self.sample(state, access), state))
        prepared = [self.prepare(own, state.memory[i]) for i, own in enumerate(split(sampled, access.replicas))]
        return sampled, [columns for columns, _ in prepared], [memory for _, memory in prepared]

    def info(
        self, sampled: Columns, replicas: Sequence[Columns], loss: Float[torch.Tensor, " R"], gradient: Any
    ) -> dict[str, Any]:
        """What every step logs, [n] each."""
        first_round = sampled["score"].view(len(replicas), -1)[:, : self.prompts * self.group_size]
        return {
            "mean_return": first_round.mean(1).numpy(force=True), "loss": loss.numpy(force=True),
            "gradient_norm": torch.linalg.vector_norm(gradient, dim=1).numpy(force=True),
            "rows": np.array([float(len(columns["mask"])) for columns in replicas]),
        }  # fmt: skip

    def report(self, replicas: Sequence[Columns], theta: Float[torch.Tensor, "R d"]) -> Info:
        """Further numbers [n] of a step to log, from each replica's prepared columns and the parameters before it."""
        return {}

    def advanced(self, state: Any, theta: Float[torch.Tensor, "R d"], memory: list[dict[str, Any]]) -> Any:
        """The state after the step."""
        old = self.behaviour(state.theta_old, theta, state.t)
        return CompositionState(theta, old, state.t + 1, state.seed, state.replica, memory)

    def behaviour(self, theta_old: Any, theta: Any, t: int) -> Any:
        """The parameters that sample in the next step: the newest ones, unless a method says otherwise."""
        return theta

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False


def split(columns: Columns, replicas: int) -> list[Columns]:
    """The columns of each replica; rows are replica-major."""
    parts = {name: x.chunk(replicas) if len(x) else [x] * replicas for name, x in columns.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(replicas)]


def _joined(x: torch.Tensor, more: torch.Tensor, replicas: int) -> torch.Tensor:
    """Rows of a further round behind those of the same replica."""
    rows = [part for pair in zip(x.chunk(replicas), more.chunk(replicas), strict=True) for part in pair]
    return torch.cat(rows)
