"""A GRPOTrainer whose advantages and loss are ours; everything else is TRL's.

What is replaced: after TRL sampled and scored, the parts before the loss run on the columns of all processes; ``_compute_loss``
evaluates the losses, averaged over the whole accumulated batch of all processes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory import checkpoints
from polytheory._trees import unpack
from polytheory.access import Key
from polytheory.errors import SettingError, require
from polytheory.integrations.parts import all_parts
from polytheory.integrations.trl.batches import FORWARD, NATIVE, key_of, regrouped, trained
from polytheory.integrations.trl.method import by_name, fitted, forms_pairs, is_loss, kl_weight, part_of, whole_groups
from polytheory.scaled.posttraining.base import Counts
from polytheory.scaled.posttraining.composition import Composition, evaluate
from polytheory.streams import row_ids

trl = require("trl", "conform-trl")
Columns = dict[str, Any]
MEMORY = "polytheory_memory"


class PolytheoryGRPOTrainer(trl.GRPOTrainer):
    """TRL's GRPOTrainer with an advantage and a loss of the scaled room.

    Args:
        args: a ``GRPOConfig``; its settings of advantages and losses must be left at their defaults (``beta``, ``epsilon``,
            ``loss_type``, ``scale_rewards`` and the like).
        advantage: "grpo" (the default), "rloo", "reinforce", ..., see `polytheory.integrations.trl.table`.
        loss: "ppo_clip" (the default), "gspo", "cispo", "reinforce", ...
        normalisation: how token losses are averaged, one of `base.NORMALISATIONS`; "constant" divides by
            ``max_completion_length``.
        advantage_settings, loss_settings: settings of the two parts by name.
        kl, beta: estimate and weight of the KL loss to the reference policy; ``beta=0`` leaves it out.
        composition: a whole method instead of the above, such as ``Nft(policy=None)``, ``RiskPo(policy=None)`` or
            ``Copg(policy=None)``; numbers of prompts and completions are TRL's.

    Completions without any reward or without a trained token are left out of loss and averages, and with them a group of
    which fewer than two are left. Raises `SettingError`, `UnknownNameError`, `ColumnError` before the first step.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        *,
        advantage: str | None = None,
        loss: str | None = None,
        normalisation: str | None = None,
        advantage_settings: dict[str, Any] | None = None,
        loss_settings: dict[str, Any] | None = None,
        kl: str | None = None,
        beta: float | None = None,
        composition: Composition | None = None,
        **others: Any,
    ):
        names = {
            "advantage": advantage, "loss": loss, "normalisation": normalisation, "kl": kl, "beta": beta,
            "advantage_settings": advantage_settings, "loss_settings": loss_settings,
        }  # fmt: skip
        given = {name: value for name, value in names.items() if value is not None}
        if composition is None:
            names = {"advantage": "grpo", "loss": "ppo_clip", "normalisation": "seq_mean", "kl": "k3", "beta": 0.0}
            settings = {"advantage_settings": None, "loss_settings": None}
            composition = by_name(**{**names, **settings, **given})
        elif given:
            raise SettingError(f"composition and {', '.join(given)} are both given; set them on the composition")
        args = trl.GRPOConfig(output_dir="trainer_output") if args is None else copy.copy(args)
        self.composition = fitted(composition, args)
        self.memory: dict[str, Any] = {}
        self._rewards: torch.Tensor | None = None
        self._window_counts: list[Counts] = []
        args.beta = kl_weight(self.composition)  # TRL keeps a reference policy where this is not 0
        super().__init__(model, reward_funcs, args, train_dataset, **others)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's rewards of all processes [N, functions], kept for `_generate_and_score_completions`."""
        self._rewards = rewards = super()._calculate_rewards(*args, **kwargs)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's samples with the columns that our losses read; ``advantages`` are ours."""
        output = super()._generate_and_score_completions(inputs)
        n = len(output["completion_ids"])
        columns = self._global_columns(output)
        keep = columns["score"].isfinite() & columns["mask"].any(1)
        size = torch.zeros_like(columns["group"]).index_add(0, columns["group"], keep.long())
        columns = {name: x[keep & (size[columns["group"]] >= 2)] for name, x in columns.items()}
        columns, memory = self._prepared(columns)
        if self.model.training:
            self.memory = memory
        rows = columns["row"]
        first = self.accelerator.process_index * n
        columns["kept"] = torch.ones_like(rows, dtype=torch.bool)
        reads = {c for use in self.composition.recipe() if is_loss(use) or forms_pairs(use) for c in part_of(use).reads}
        reads |= {"kept", "row", "group", "sampler_weights"}
        for name in sorted(reads & set(columns) - set(NATIVE) - {"mask"}):
            x = columns[name]
            whole = x.new_zeros((n * self.accelerator.num_processes, *x.shape[1:]))
            whole[rows] = x
            own = whole[first : first + n]
            output[key_of(name)] = own[:, : output["completion_ids"].shape[1]] if own.ndim == 2 else own
            if name == "advantages" and x.ndim == 1:
                self._relog(whole)
        return output

    def _global_columns(self, output: dict[str, Any]) -> Columns:
        """The columns of all processes in the order of their rows, as the parts before the loss read them."""
        assert self._rewards is not None
        rewards, weights = self._rewards.double(), self.reward_weights.to(self._rewards.device).double()
        score = (rewards * weights).nansum(1)
        score[rewards.isnan().all(1)] = torch.nan
        rows = torch.arange(len(score), device=score.device)
        own = {"mask": trained(output)}
        reads = {c for use in self.composition.recipe() if not is_loss(use) for c in part_of(use).reads}
        for name in sorted(reads & set(NATIVE)):
            own[name] = self._log_probs(output, name)
        if "importance_sampling_ratio" in output:  # TRL's own correction, where there is none of ours
            ratio = output["importance_sampling_ratio"]
            own["sampler_weights"] = ratio[:, 0] if ratio.shape[1] == 1 else ratio
        size = self.num_generations if self.model.training else self.num_generations_eval
        shared = {name: self._gathered(x) for name, x in own.items()}
        return {**shared, "score": score, "row": rows, "group": rows // size}

    def _log_probs(self, output: dict[str, Any], name: str) -> torch.Tensor:
        """Frozen log-probs [n, t]; those of the old policy are computed where TRL saw no need to."""
        if NATIVE[name] in output:
            x = output[NATIVE[name]]
            # a token that vLLM could not score has no correction
            return torch.where(x.isnan(), self._log_probs(output, "log_probs_old"), x) if x.isnan().any() else x
        with torch.no_grad():
            output[NATIVE[name]] = self._forward(self.model, output)[0].detach()
        return output[NATIVE[name]]

    def _gathered(self, x: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return x
        if x.ndim == 2:
            x = self.accelerator.pad_across_processes(x, dim=1)
        return self.accelerator.gather(x)

    def _prepared(self, columns: Columns) -> tuple[Columns, dict[str, Any]]:
        """The parts before the loss, and their memory; the same on every process."""
        place = columns["row"].numpy(force=True)
        key = Key(self.args.seed, self.composition.name, self.state.global_step)
        columns = self.composition.annotated(columns, key, row_ids(np.zeros_like(place), place), place)
        memory = dict(self.memory)
        for use in self.composition.recipe():
            if is_loss(use) or forms_pairs(use):
                continue
            if use.stateful:
                columns, memory[use.part] = part_of(use)(columns, memory.get(use.part), **use.settings)
            else:
                columns = part_of(use)(columns, **use.settings)
        return columns, memory

    def _relog(self, advantages: torch.Tensor) -> None:
        """Put our advantages where TRL logged its own."""
        logged = self._logs["advantages"]
        for _ in range(min(len(advantages), len(logged))):
            logged.pop()
        logged.extend(advantages.tolist())

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """TRL's micro-batch; counts the accumulated batches whenever there are new samples."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training or self._buffered_inputs is before:
            return inputs
        if whole_groups(self.composition):
            self._buffered_inputs = regrouped(self._buffered_inputs)
        size = self.args.gradient_accumulation_steps
        windows = [self._buffered_inputs[i : i + size] for i in range(0, len(self._buffered_inputs), size)]
        local = torch.stack([torch.stack([self._count(piece) for piece in window]).sum(0) for window in windows])
        counted = self.accelerator.reduce(local, reduction="sum").tolist()
        self._window_counts = [Counts(*(int(x) for x in row)) for row in counted]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _count(self, inputs: dict[str, Any]) -> torch.Tensor:
        counts = Counts.of(self._columns(inputs))
        device = inputs["completion_ids"].device
        return torch.tensor([counts.tokens, counts.sequences, counts.pairs], device=device)

    def _columns(self, inputs: dict[str, Any], log_probs: torch.Tensor | None = None) -> Columns:
        """The rows of a micro-batch that are kept, as the losses read them; pairs are formed among them."""
        columns: Columns = {"mask": trained(inputs)}
        if log_probs is not None:
            columns["log_probs"] = log_probs
            columns["log_probs_old"] = inputs.get(NATIVE["log_probs_old"], log_probs.detach())
        if "ref_per_token_logps" in inputs:
            columns["log_probs_ref"] = inputs["ref_per_token_logps"]
        columns |= {name.removeprefix("polytheory_"): x for name, x in inputs.items() if name.startswith("polytheory_")}
        if "advantages" in {c for use in self.composition.recipe() for c in part_of(use).writes}:
            columns["advantages"] = inputs["advantages"]
        columns = {name: x[columns["kept"]] for name, x in columns.items()}
        for use in self.composition.recipe():
            if forms_pairs(use):
                columns = part_of(use)(columns, **use.settings)
        return columns

    def _forward(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """TRL's log-probs, entropies and auxiliary loss of the completions."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        more = {name: inputs[name] for name in FORWARD if name in inputs}
        if not options:
            options = {"batch_size": self.args.per_device_train_batch_size}
        return self._get_per_token_logps_and_entropies(
            model, ids, attention, inputs["completion_ids"].size(1), **options, **more
        )

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Our loss of a micro-batch: summed over the micro-batches of a step and averaged over processes, it is the whole's."""
        mode = "train" if self.model.training else "eval"
        log_probs, entropies, aux = self._forward(
            model, inputs, compute_entropy=True, compute_aux_loss=self.aux_loss_enabled
        )
        columns = self._columns(inputs, log_probs)
        size, ranks = self.args.gradient_accumulation_steps, self.accelerator.num_processes
        if mode == "eval":
            counts, ranks = Counts.of(columns), 1
        else:
            if self.current_gradient_accumulation_steps != size:
                raise SettingError(
                    f"{self.current_gradient_accumulation_steps} micro-batches are accumulated instead of {size}; the "
                    "averages were taken over more, choose max_steps or epochs that end with a whole batch"
                )
            counts = self._window_counts[self._step % self.args.steps_per_generation // size]
        loss = 0.0 * torch.where(trained(inputs), log_probs, torch.zeros_like(log_probs)).sum()
        if len(columns["mask"]):
            loss = loss + ranks * evaluate(
                columns, self.composition.recipe(), normalisation=self.composition.normalisation,
                max_length=self.composition.max_length, counts=counts,
            )  # fmt: skip
        if self.aux_loss_enabled:  # of a mixture of experts, as TRL has it
            loss = loss + self.router_aux_loss_coef * aux / (size if mode == "train" else 1)
        self._report(mode, inputs, columns, entropies)
        return loss

    def _report(self, mode: str, inputs: dict[str, Any], columns: Columns, entropies: torch.Tensor) -> None:
        """TRL's ``entropy`` and ``kl`` of trained tokens."""
        with torch.no_grad():
            found = {"entropy": entropies[trained(inputs)]}
            if "log_probs_ref" in columns:
                found["kl"] = all_parts()["kl_k3"](columns)[columns["mask"]]
            sums = [
                torch.stack([x.double().sum(), x.new_tensor(x.numel(), dtype=torch.float64)]) for x in found.values()
            ]
            totals = self.accelerator.reduce(torch.stack(sums), reduction="sum")
        for name, (total, number) in zip(found, totals.tolist(), strict=True):
            self._metrics[mode][name].append(total / max(number, 1.0))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """TRL's checkpoint with the memory of the parts."""
        super()._save_checkpoint(model, trial)
        if self.memory and self.accelerator.is_main_process:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            checkpoints.save(folder / MEMORY, self.state.global_step, self.memory, {}, {})

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        """What TRL loads, and the memory of the parts."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (Path(checkpoint) / MEMORY).exists():
            self.memory = unpack(checkpoints.load(Path(checkpoint) / MEMORY).packed, {}, name="memory")
