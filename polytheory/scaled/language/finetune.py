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

from polytheory._typing import Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import DivergedError, SettingError
from polytheory.rollouts import checked
from polytheory.scaled.language import metrics
from polytheory.scaled.language import ranks as processes
from polytheory.scaled.language.adapters import adapted, trainable_copy, without_dropout
from polytheory.scaled.language.curvature import second_batch
from polytheory.scaled.language.masters import Masters
from polytheory.scaled.language.optimiser import AdamW, Harpg, NPgIgt, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.ranks import Ranks
from polytheory.scaled.language.sharding import gathered, is_sharded, shard, shard_optimizer
from polytheory.scaled.posttraining.base import PARTS, Counts
from polytheory.scaled.posttraining.composition import Composition, evaluate
from polytheory.streams import row_ids

Columns = dict[str, Any]
HOW = {"names_run": False}  # says how a gradient is computed, not which: a run may go on with another value


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
            1e-4 fits float32, and stands for 1/2 nat in bfloat16 (see `metrics.LOW`); None does not ask.
        max_kl: largest KL divergence in nats per token to the policy that sampled, after a step's updates, and to the
            reference, where the method has these; beyond it the run ends. None does not ask.
        entropy: report the policy's entropy, at one more pass over the logits of a step's first update.
        gradient_checkpointing: keep only the input of every layer for the backward pass and make the rest again: the same
            gradient, less memory, more time.
        train_copy: False trains the policy's own weights, which saves the memory of a second model and changes the policy that
            was passed; refused where a part reads ``log_probs_ref``.

    Raises `SettingError`.
    """

    method: Composition
    optimiser: AdamW | Sgd | NPgIgt | Harpg = field(default_factory=AdamW)
    mini_batches: int = 1
    micro_batch: int = field(default=1024, metadata=HOW)
    mismatch_tolerance: float | None = 1e-4
    max_kl: float | None = 10.0
    entropy: bool = True
    gradient_checkpointing: bool = field(default=False, metadata=HOW)
    train_copy: bool = field(default=True, metadata=HOW)

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    memory_advice: ClassVar[str] = (
        "try a smaller micro_batch, gradient_checkpointing=true, fewer prompts, or a shorter completion_length"
    )

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
        if not self.train_copy and "log_probs_ref" in reads(self.method):
            raise SettingError(f"train_copy = False, but {self.method.name} reads the starting weights; leave it True")

    @property
    def processes(self) -> Ranks:
        """The processes that take the steps together, see `polytheory.processes`."""
        return processes.current()

    def init(self, access: Any, seed: int, replica: int = 0) -> FinetuneState:
        """A copy of the policy's model, nothing sampled yet; weights that are frozen are shared with it."""
        model = ready(self.method.policy.model, copied=self.train_copy, checkpointing=self.gradient_checkpointing)
        return FinetuneState(model, made(self.optimiser, model, self.processes), 0, 0, seed, replica, {})

    def policy(self, state: FinetuneState) -> CausalPolicy:
        """The model in training as a policy."""
        return self.method.policy.with_model(state.model)

    def done(self, state: FinetuneState) -> bool:
        """A learner is never done by itself."""
        return False

    def step(self, state: FinetuneState, access: Any) -> tuple[FinetuneState, Info]:
        """Sample once, prepare, update; without a row with weight nothing moves, but the clock advances."""
        with self.optimiser.sampling(state.optimizer):
            with gathered(state.model):
                sampled, info = self.sample(state, access)
                sampled = checked(self.scored(sampled, state))
            columns, memory = self.method.prepare(sampled, state.memory)
            batches = list(self._batches(columns))
            tally = metrics.Tally(self.method.recipe(), self.processes)
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
        rows = i * m * g + np.arange(m * g)
        ids = row_ids(state.replica, rows)
        columns = self.completed(state, access, key, (state.t * self.method.rounds + i) * m, m, g, ids)
        columns["group"] = torch.as_tensor(i * m + np.arange(m).repeat(g), device=columns["mask"].device)
        return self.method.annotated(columns, Key(state.seed, self.method.name, state.t), ids, rows)

    def completed(
        self, state: FinetuneState, access: Any, key: Key, first: int, m: int, g: int, ids: Int[np.ndarray, " n"]
    ) -> Columns:
        """``m`` prompts from place ``first`` in the order of ``key``, each completed ``g`` times by the policy in training."""
        ranks, start = self.processes, access.next_prompts(key, first, m).repeat(g)
        groups = ranks.share(m)
        own = range(groups.start * g, groups.stop * g)
        at = (
            slice(own.start, own.stop) if own else slice(0, g)
        )  # one without a group of its own keeps pace with the first
        with ranks.counted(access.meter, bool(own)), ranks.together():
            traj = access.rollouts(self.policy(state), Requests(ids[at], access.spec.horizon, start[at]), key)
        columns = {
            **traj.columns, "actions": traj.actions, "mask": traj.mask, "score": traj.score,
            "log_probs_sampler": traj.log_probs_sampler, "finished": traj.finished,
        }  # fmt: skip
        return ranks.gather(columns, own, m * g)

    def scored(self, columns: Columns, state: FinetuneState) -> Columns:
        """``columns`` with the frozen log-probs that the recipe reads."""
        policies = {"log_probs_old": self.policy(state), "log_probs_ref": self.method.policy}
        read = reads(self.method)
        with torch.no_grad():
            for name, policy in policies.items():
                if name in read:
                    found = [(rows, own, policy.log_probs(part)) for (part, rows), own in self.dealt(columns)]
                    columns = {**columns, name: self._assembled(columns, found)}
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
                metrics.gate(info, self.mismatch_tolerance, state.model.dtype)
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
        counts, policy, found = Counts.of(batch), self.policy(state), []
        total, gradients = torch.zeros((), dtype=torch.float64, device=batch["mask"].device), []
        longest = self.method.max_length or batch["actions"].shape[1]
        for (part, rows), own in self.dealt(batch):
            log_probs, entropies = policy.log_probs_and_entropies(part, entropy=self.entropy and update == 0)
            now = {**part, "log_probs": log_probs}
            tally.add(now if own else {**now, "mask": torch.zeros_like(part["mask"])}, update, entropies)
            loss = evaluate(
                now, self.method.recipe(), normalisation=self.method.normalisation, max_length=longest, counts=counts
            )
            (loss if own else 0.0 * loss).backward()
            gradients = gradients_of(state)
            total += loss.detach() * own
            found.append((rows, own, now["log_probs"].detach()))
        self.processes.sum_gradients(gradients)
        return float(self.processes.sum(total)), self._assembled(batch, found)

    def dealt(self, columns: Columns) -> Iterator[tuple[tuple[Columns, slice], bool]]:
        """This process's micro-batches with their rows, see `Ranks.dealt`."""
        pieces, start = [], 0
        for part in self.passes(columns):
            stop = start + len(part["mask"])
            pieces.append((part, slice(start, stop)))
            start = stop
        return self.processes.dealt(pieces)

    def _assembled(self, columns: Columns, found: list[tuple[slice, bool, torch.Tensor]]) -> torch.Tensor:
        """All rows [n, t] from every process's micro-batches."""
        if self.processes.world == 1:
            return torch.cat([x for _, _, x in found])
        whole = found[0][2].new_zeros(columns["mask"].shape)
        for rows, own, x in found:
            if own:
                whole[rows] = x
        return self.processes.sum(whole)

    def passes(self, columns: Columns) -> Iterator[Columns]:
        """Micro-batches of whole groups, small enough that every process gets one where there are so many groups."""
        return _chunks(columns, min(self.micro_batch, -(-len(columns["mask"]) // self.processes.world)))


def reads(method: Composition) -> set[str]:
    """Columns that the parts of a method read."""
    return {name for use in method.recipe() for name in PARTS[use.part].reads}


def ready(model: Any, *, copied: bool = True, checkpointing: bool = False) -> Any:
    """The model that a run trains: a copy, or the model itself; split over the processes where they share the weights."""
    model = trainable_copy(model) if copied else model
    if checkpointing:
        # transformers checkpoints in training mode alone, where dropout would change the law that was sampled from
        without_dropout(model).train()
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # newer and older transformers
        getattr(model, next(name for name in names if hasattr(model, name)))({"use_reentrant": False})
    ranks = processes.current()
    return shard(model, ranks) if ranks.sharded else model


def made(optimiser: Any, model: Any, ranks: Ranks) -> Any:
    """The optimiser of a run. Raises `SettingError` for one that needs all weights as a vector where they are sharded."""
    plain = isinstance(optimiser, AdamW | Sgd)
    if not plain and torch.finfo(model.dtype).eps > torch.finfo(torch.float32).eps and not adapted(model):
        raise SettingError(
            f"{type(optimiser).__name__} on weights in {str(model.dtype).removeprefix('torch.')}, which round its steps away; "
            "set dtype = 'float32', or follow = 'adamw', which keeps float32 masters"
        )
    if not is_sharded(model):
        return optimiser.make(model.parameters())
    if not plain:
        raise SettingError(
            f"{type(optimiser).__name__} keeps all weights as one vector, which sharding splits; launch without FSDP, or set "
            "follow = 'adamw'"
        )
    return shard_optimizer(optimiser.make(model.parameters()), ranks)


def gradients_of(state: FinetuneState) -> list[Any]:
    """The tensors in which the gradients of a state stand: the parameters, or their masters."""
    if not isinstance(state.optimizer, Masters):
        return list(state.model.parameters())
    state.optimizer.collect()  # after every pass, so that passes add up in float32 also where weights are sharded
    return state.optimizer.params


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
