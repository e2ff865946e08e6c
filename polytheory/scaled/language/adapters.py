"""Low-rank adapters: a model whose own weights stay as they are, and are shared by every copy of it.

``W x`` becomes ``W x + (alpha / rank) B A x`` with ``B = 0`` at the start [hu2022], so that a fresh adapter changes nothing.
The frozen reference policy of a run is another small adapter on the very same weights, never a second model.

References: [hu2022] Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.access import Key
from polytheory.errors import CheckpointError, SettingError, UnknownNameError, require
from polytheory.streams import subseed

BASE = "base_weights"  # entry of a checkpoint: samples of the frozen weights that the adapter belongs to
SAVES = ("both", "adapter", "merged")
_SAMPLES = 16  # entries looked at in every frozen tensor


@dataclass(frozen=True)
class Lora:
    """Train low-rank adapters (needs `peft`) instead of all weights.

    Fields:
        lora_rank: rank of every adapter, >= 1; 0 trains all weights.
        lora_alpha: > 0; the adapter's output is multiplied by lora_alpha / lora_rank.
        lora_dropout: on the adapter's input in the supervised steps, in [0, 1). Reinforcement learning goes without, since
            the law that is trained must be the law that was sampled from.
        lora_targets: endings of the names of the layers that get one, such as q_proj; empty for all linear layers but the
            output layer.
        lora_save: what is written at the end: "adapter", "merged" (a plain model), or "both".

    Raises `SettingError`, `UnknownNameError`.
    """

    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ()
    lora_save: str = "both"

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise SettingError(f"lora_rank = {self.lora_rank}; use at least 1, or 0 to train all weights")
        if not self.lora_alpha > 0:
            raise SettingError(f"lora_alpha = {self.lora_alpha}; a factor is positive, try 32")
        if not 0 <= self.lora_dropout < 1:
            raise SettingError(f"lora_dropout = {self.lora_dropout}; a share lies in [0, 1)")
        if self.lora_save not in SAVES:
            raise UnknownNameError("lora_save", self.lora_save, SAVES)
        given = [name for name in ("lora_dropout", "lora_targets") if getattr(self, name)]
        if given and not self.lora_rank:
            raise SettingError(f"{given[0]} without lora_rank; give a rank such as lora_rank=16, or leave it out")


def add_adapters(model: Any, lora: Lora, seed: int) -> Any:
    """The model with fresh adapters, in place; only they are trained, in float32, and only they are in its ``state_dict``.

    Raises `SettingError` for targets that the model does not have, or its output layer (log-probs are made from the weights
    of that one); `MissingExtraError` without peft.
    """
    peft = require("peft", "lm")
    targets: Any = list(lora.lora_targets) or "all-linear"
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft tells of settings that it corrects itself
            torch.manual_seed(seed)
            model.add_adapter(
                peft.LoraConfig(
                    task_type="CAUSAL_LM", r=lora.lora_rank, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout,
                    target_modules=targets,
                )
            )  # fmt: skip
    except (ValueError, TypeError) as error:
        head = model.get_output_embeddings()
        linear = {
            name.rpartition(".")[2]
            for name, x in model.named_modules()
            if type(x).__name__ in ("Linear", "Conv1D") and x is not head
        }
        raise SettingError(
            f"lora_targets = {lora.lora_targets}: no such layers in this model; it has {', '.join(sorted(linear))}"
        ) from error
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(hasattr(x, "base_layer") for x in ends):
        raise SettingError(
            f"lora_targets = {lora.lora_targets} holds an embedding or output layer; adapt the inner layers"
        )
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    model.register_state_dict_post_hook(_only_adapters)
    model.register_load_state_dict_pre_hook(_check_base)
    model.register_load_state_dict_post_hook(_nothing_missing)
    return model


def adapted(model: Any) -> bool:
    """True for a model from `add_adapters`."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def trainable_copy(model: Any) -> Any:
    """A copy for training: its own weights where they are trained, the very same tensors where they are frozen."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})


def merged(model: Any) -> Any:
    """A plain model with the adapters multiplied into its weights, which other samplers and readers know.

    It shares the weights that no adapter touches. A model without adapters is returned as it is.
    """
    if not adapted(model):
        return model
    plain = trainable_copy(model)
    for name, layer in list(plain.named_modules()):
        if not hasattr(layer, "get_delta_weight"):
            continue
        base = layer.base_layer
        delta = layer.get_delta_weight("default").detach()
        base.weight = torch.nn.Parameter((base.weight.detach().float() + delta.float()).to(base.weight.dtype))
        parent, _, own = name.rpartition(".")
        setattr(plain.get_submodule(parent), own, base)
    plain._hf_peft_config_loaded = False
    del plain.peft_config
    for hooks in (plain._state_dict_hooks, plain._load_state_dict_pre_hooks, plain._load_state_dict_post_hooks):
        hooks.clear()
    return plain


@contextmanager
def dropping(model: Any, key: Key) -> Iterator[None]:
    """Dropout at work, its random numbers named by the key alone: a resumed run drops the same entries."""
    device = next(model.parameters()).device
    was = model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(subseed(key.seed, f"{key.purpose}/dropout", key.step))
        model.train()
        try:
            yield
        finally:
            model.train(was)


def without_dropout(model: Any) -> Any:
    """The model with every dropout switched off for good, also in training mode; in place."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 (no tensor, as the type of modules would have it)
    return model


def fingerprint(model: Any) -> Float[torch.Tensor, " k"]:
    """Some entries of every frozen tensor: enough to tell two models apart, cheap for a large one."""
    found = []
    for p in model.parameters():
        if not p.requires_grad:
            whole: Any = p.detach()
            flat = (whole.full_tensor() if hasattr(whole, "full_tensor") else whole).reshape(-1)  # where it is sharded
            places = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
            found.append(flat[places.to(flat.device)].float().cpu())
    return torch.cat(found)


def _only_adapters(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    if prefix:
        return
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    for name in set(state) - trained:
        del state[name]
    state[BASE] = fingerprint(module)


def _check_base(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    saved = state.pop(prefix + BASE, None)
    if saved is not None and not torch.equal(saved.cpu(), fingerprint(module)):
        raise CheckpointError(
            "these adapters belong to a model with other weights; give the model that they began with"
        )


def _nothing_missing(module: Any, keys: Any) -> None:
    """The frozen weights are not in a checkpoint of adapters."""
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    keys.missing_keys[:] = [name for name in keys.missing_keys if name in trained]
