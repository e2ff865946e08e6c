"""Trainers of TRL without a model: their own methods on given log-probs.

A trainer is made without its constructor, gets the attributes that its constructor would derive from a real, validated
configuration, and everything that would touch a model, a tokenizer or a reward function returns the columns of a batch.
TRL creates tensors in torch's default dtype; `double` makes that float64.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

from polytheory.conformance.contract import Batch, Refused


@contextmanager
def double() -> Iterator[None]:
    """Make float64 the dtype of new tensors, for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def config(cls: Any, settings: dict[str, Any]) -> Any:
    """A configuration of TRL. Raises `Refused` with TRL's own words for settings that it does not take."""
    names = {"output_dir", "use_cpu", "bf16", "report_to"}
    if names & set(settings):
        raise Refused(f"{', '.join(sorted(names & set(settings)))}: set by the adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return cls(output_dir="unused", use_cpu=True, bf16=False, report_to=[], **settings)
        except (TypeError, ValueError) as error:
            raise Refused(f"{cls.__name__}: {error}") from error


def trainer(cls: Any, args: Any, **attributes: Any) -> Any:
    """A trainer without a model, in training mode, on one process, with one micro-batch per step."""
    Accelerator = import_module("accelerate").Accelerator  # present wherever TRL is

    self = object.__new__(cls)
    self.args = args
    self.accelerator = Accelerator(cpu=True)
    self.model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    self.aux_loss_enabled = False
    self.current_gradient_accumulation_steps = 1
    for name, value in attributes.items():
        setattr(self, name, value)
    return self


def generator(cls: Any, args: Any, batch: Batch, **attributes: Any) -> Any:
    """A trainer whose samples, rewards and log-probs are those of the batch: for ``_generate_and_score_completions``."""
    lengths = lengths_of(batch)
    width = max(lengths)
    columns = {"old": batch.log_probs_old, "ref": batch.log_probs_ref}
    ref_model = object()

    def log_probs(model: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, None, None]:
        return columns["ref" if model is ref_model else "old"][:, :width].detach(), None, None

    logs: Any = defaultdict(list)
    logs["rewards"], logs["extra"] = defaultdict(list), defaultdict(list)
    return trainer(
        cls, args, beta=args.beta, ref_model=ref_model, num_generations=args.num_generations,
        mask_truncated_completions=False, pad_to_multiple_of=None, _tokenizer=SimpleNamespace(pad_token_id=0),
        num_iterations=args.num_iterations, environment_factories=None, environments=None, tools=None,
        reward_weights=torch.ones(1), reward_funcs=[None], reward_func_names=["score"], log_multimodal=False,
        _logs=logs, _pending_extra_logs={}, _pending_metrics={},
        _calculate_rewards=lambda *_: batch.score.detach()[:, None],
        _get_per_token_logps_and_entropies=log_probs, **attributes,
    )  # fmt: skip


def lengths_of(batch: Batch) -> list[int]:
    """Positions up to the last trained token of every row."""
    place = torch.arange(1, batch.mask.shape[1] + 1)
    return (batch.mask * place).amax(1).tolist()


def equal_groups(batch: Batch) -> int:
    """Completions of a group. Raises `Refused` unless groups stand together and are equally large, as TRL has them."""
    groups = batch.group.tolist()
    starts = [i for i, g in enumerate(groups) if i == 0 or g != groups[i - 1]]
    sizes = {end - start for start, end in zip(starts, [*starts[1:], len(groups)], strict=True)}
    if len(starts) != len(set(groups)) or len(sizes) != 1:
        raise Refused("TRL's groups stand together and all have num_generations rows")
    return sizes.pop()
