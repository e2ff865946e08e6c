"""Any composition of the post-training family on a causal language model: the same parts, deep parameters.

One step samples completions once, runs the method's parts on their columns, and makes ``updates`` optimiser updates on the
method's loss. The loss of a micro-batch is divided by the counts of the whole batch, so that accumulation, micro-batch
size and number of processes do not change the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import DivergedError, SettingError
from polytheory.rollouts import checked
from polytheory.scaled.language import metrics
from polytheory.scaled.language.adapters import trainable_copy
from polytheory.scaled.language.curvature import second_batch
from polytheory.scaled.language.optimiser import AdamW, Harpg, NPgIgt, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.posttraining.base import PARTS, Counts
from polytheory.scaled.posttraining.composition import Composition, evaluate
from polytheory.streams import row_ids

Columns = dict[str, Any]


@dataclass(eq=False)
class FinetuneState:
    """State of a fine-tuning run.

    Fields: ``model`` the weights in training; ``optimizer``; ``t`` steps made; ``updates`` optimiser updates made; ``seed``;
    ``replica``; ``memory`` state of the method's parts by name; ``tokens`` of prompts and completions so far.
    """

    model: Any
    optimizer: Any
    t: int
    updates: int
    seed: int
    replica: int
    memory: dict[str, Any]
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class Finetune:
    """Train a causal language model with a method of the post-training family.

    Fields:
        method: the composition; its ``policy`` is a `CausalPolicy`, which is also the frozen reference policy.
        optimiser: how its gradient is followed; the method's own ``step_size`` is not used.
        mini_batches: updates per sweep over the step's completions, >= 1; the method's ``updates`` counts sweeps.
        micro_batch: most rows in one backward pass, >= 1; a group is never split, so a large group may exceed it.
        mismatch_tolerance: largest difference in nats between the log-probs of sampler and trainer at the same weights;
            1e-4 fits float32, None does not ask.
        max_kl: largest KL divergence in nats per token to the policy that sampled, after a step's updates, and to the
            reference, where the method has these; beyond it the run ends. None does not ask.
        entropy: report the policy's entropy, at one more pass over the logits of a step's first update.

    Raises `SettingError`.
    """

    method: Composition
    optimiser: AdamW | Sgd | NPgIgt | Harpg = field(default_factory=AdamW)
    mini_batches: int = 1
    micro_batch: int = 1024
    mismatch_tolerance: float | None = 1e-4
    max_kl: float | None = 10.0
    entropy: bool = True

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    memory_advice: ClassVar[str] = "try a smaller micro_batch, fewer prompts, or a shorter completion_length"

    def __post_init__(self) -> None:
        for name in ("mini_batches", "micro_batch"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if not isinstance(self.method.policy, CausalPolicy):
            raise SettingError(
                f"the method's policy is a {type(self.method.policy).__name__}; fine-tuning needs a CausalPolicy"
            )
        if not self.method.samples_itself:
            raise SettingError(f"{self.method.name} samples from other policies here; fine-tuning samples from its own")
        if getattr(self.method, "refresh", 1) != 1:
            raise SettingError(
                f"refresh = {getattr(self.method, 'refresh', 1)}; fine-tuning samples from the newest weights"
            )
        if self.optimiser.on_policy and (self.method.updates, self.mini_batches) != (1, 1):
            raise SettingError(
                f"updates = {self.method.updates}, mini_batches = {self.mini_batches}; {type(self.optimiser).__name__} takes "
                "every completion once, set both to 1"
            )
        if isinstance(self.optimiser, Harpg):
            self.optimiser.check(self.method)
        if self.method.update is not None:
            raise SettingError("update is for tabular compositions; fine-tuning takes its optimiser")
        if self.method.micro_batch_size is not None:
            raise SettingError("micro_batch_size is for tabular compositions; fine-tuning takes micro_batch")

    def init(self, access: Any, seed: int, replica: int = 0) -> FinetuneState:
        """A copy of the policy's model, nothing sampled yet; weights that are frozen are shared with it."""
        model = trainable_copy(self.method.policy.model)
        return FinetuneState(model, self.optimiser.make(model.parameters()), 0, 0, seed, replica, {})

    def policy(self, state: FinetuneState) -> CausalPolicy:
        """The model in training as a policy."""
        return self.method.policy.with_model(state.model)

    def done(self, state: FinetuneState) -> bool:
        """A learner is never done by itself."""
        return False

    def step(self, state: FinetuneState, access: Any) -> tuple[FinetuneState, Info]:
        """Sample once, prepare, update; without a row with weight nothing moves, but the clock advances."""
        with self.optimiser.sampling(state.optimizer):
            sampled, info = self.sample(state, access)
            columns, memory = self.method.prepare(checked(self.scored(sampled, state)), state.memory)
            batches = list(self._batches(columns))
            tally = metrics.Tally(self.method.recipe())
            first = self._backward(state, batches[0], tally, 0) if batches else None
        if first is not None and isinstance(self.optimiser, Harpg):
            info |= second_batch(self, state, access)
        state.t, state.memory, state.tokens = state.t + 1, memory, state.tokens + metrics.tokens(sampled)
        info |= {"rows": float(len(columns["mask"])), "num_tokens": float(state.tokens)}
        info |= metrics.weights_of_correction(columns)
        return state, info | (self._update(state, batches, first, tally) if first is not None else {})

    def _batches(self, columns: Columns) -> Iterator[Columns]:
        """The columns of every update."""
        if not bool(columns["mask"].any()):
            return
        for _ in range(self.method.updates):
            yield from _chunks(columns, -(-len(columns["mask"]) // self.mini_batches))

    def sample(self, state: FinetuneState, access: Any) -> tuple[Columns, dict[str, float]]:
        """Rounds of completions until the method has `enough`."""
        columns = self._round(state, access, 0)
        first = columns
        for i in range(1, self.method.rounds):
            if self.method.enough(columns):
                break
            columns = _joined(columns, self._round(state, access, i))
        return columns, metrics.sampling(first)

    def _round(self, state: FinetuneState, access: Any, i: int) -> Columns:
        m, g = self.method.prompts, self.method.group_size
        key = Key(state.seed, f"{self.method.name}/completions", state.t)
        first = (state.t * self.method.rounds + i) * m
        start = access.next_prompts(key, first, m).repeat(g)
        rows = i * m * g + np.arange(m * g)
        group = i * m + np.arange(m).repeat(g)
        ids = row_ids(state.replica, rows)
        traj = access.rollouts(self.policy(state), Requests(ids, access.spec.horizon, start), key)
        columns = {
            **traj.columns, "actions": traj.actions, "mask": traj.mask, "score": traj.score,
            "group": torch.as_tensor(group, device=traj.mask.device), "log_probs_sampler": traj.log_probs_sampler,
            "finished": traj.finished,
        }  # fmt: skip
        return self.method.annotated(columns, Key(state.seed, self.method.name, state.t), ids, rows)

    def scored(self, columns: Columns, state: FinetuneState) -> Columns:
        """``columns`` with the frozen log-probs that the recipe reads."""
        reads = {name for use in self.method.recipe() for name in PARTS[use.part].reads}
        policies = {"log_probs_old": self.policy(state), "log_probs_ref": self.method.policy}
        with torch.no_grad():
            for name, policy in policies.items():
                if name in reads:
                    columns = {**columns, name: torch.cat([policy.log_probs(x) for x in self.passes(columns)])}
        return columns

    def _update(
        self, state: FinetuneState, batches: list[Columns], first: tuple[float, torch.Tensor], tally: metrics.Tally
    ) -> dict[str, float]:
        """Follow the gradients; ``first`` was made at the weights that sampled."""
        info: dict[str, float] = {}
        for i, batch in enumerate(batches):
            loss, now = first if i == 0 else self._backward(state, batch, tally, i)
            if i == 0:
                info = metrics.mismatch(now, batch["log_probs_sampler"], batch["mask"]) | {"loss": loss}
                metrics.gate(info, self.mismatch_tolerance)
            metrics.bounded(tally.means(), self.max_kl, state.t - 1)
            norm = self.optimiser.apply(state.optimizer, state.updates)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise DivergedError(
                    f"step {state.t - 1}: loss {loss:g}, gradient norm {norm:g}; lower step_size or look at the rewards"
                )
            info.setdefault("grad_norm", norm)
            state.updates += 1
        return {**info, **tally.means(), "learning_rate": self.optimiser.rate(state.updates - 1)}

    def _backward(
        self, state: FinetuneState, batch: Columns, tally: metrics.Tally, update: int
    ) -> tuple[float, torch.Tensor]:
        """Gradients into the parameters; the loss and the log-probs at these weights. ``update`` counts from 0 in a step."""
        counts, total, policy, found = Counts.of(batch), 0.0, self.policy(state), []
        longest = self.method.max_length or batch["actions"].shape[1]
        for part in self.passes(batch):
            log_probs, entropies = policy.log_probs_and_entropies(part, entropy=self.entropy and update == 0)
            now = {**part, "log_probs": log_probs}
            tally.add(now, update, entropies)
            loss = evaluate(
                now, self.method.recipe(), normalisation=self.method.normalisation, max_length=longest, counts=counts
            )
            loss.backward()
            total += float(loss.detach())
            found.append(now["log_probs"].detach())
        return total, torch.cat(found)

    def passes(self, columns: Columns) -> Iterator[Columns]:
        """Micro-batches of whole groups."""
        return _chunks(columns, self.micro_batch)


def _chunks(columns: Columns, size: int) -> Iterator[Columns]:
    """Consecutive rows, about ``size`` at a time, never splitting a group; pairs of rows go with their group."""
    edges = [*(torch.nonzero(columns["group"].diff())[:, 0] + 1).tolist(), len(columns["group"])]
    start = 0
    for stop, following in zip(edges, [*edges[1:], edges[-1]], strict=True):
        if following - start > size or stop == edges[-1]:
            part = {name: x[start:stop] for name, x in columns.items() if name != "pairs"}
            if "pairs" in columns:
                pairs = columns["pairs"]
                inside = ((pairs >= start) & (pairs < stop)).all(1)
                part["pairs"] = pairs[inside] - start
            yield part
            start = stop


def _joined(columns: Columns, more: Columns) -> Columns:
    """Rows of a further round behind those before; completions and prompts are padded to one length."""
    out = {}
    for name, x in columns.items():
        y = more[name]
        if x.ndim == 2 and x.shape[1] != y.shape[1]:
            left = name.startswith("prompt")
            width = max(x.shape[1], y.shape[1])
            x, y = (
                torch.nn.functional.pad(z, (width - z.shape[1], 0) if left else (0, width - z.shape[1])) for z in (x, y)
            )
        out[name] = torch.cat([x, y])
    return out
