"""Weights split over processes (FSDP2): each holds a share of every tensor, and sees a layer whole only while it is at work.

From outside a sharded model and its optimiser look like plain ones: ``state_dict`` gives whole tensors (in the first process;
the others take part and get empty ones), ``load_state_dict`` takes whole tensors. So a checkpoint does not know how many
processes wrote it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

import torch

from polytheory.errors import SettingError
from polytheory.scaled.language.adapters import adapted
from polytheory.scaled.language.masters import Masters
from polytheory.scaled.language.ranks import Ranks

T = TypeVar("T")
_PLAIN = "_plain_skeleton"


def shard(model: Any, ranks: Ranks) -> Any:
    """The model in place, its weights split over the processes, layer by layer; gradients are summed, not averaged.

    Raises `SettingError` for adapters, whose frozen weights every copy shares.
    """
    if adapted(model):
        raise SettingError(
            "adapters and sharded weights do not go together here; launch without FSDP, or set lora_rank = 0"
        )
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    meta = {id(p): torch.nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    plain = copy.deepcopy(model, dict(meta))
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    names = set(getattr(model, "_no_split_modules", None) or ())
    for unit in [x for x in model.modules() if type(x).__name__ in names]:
        fsdp.fully_shard(unit, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    for unit in _units(model):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)
    model.inside = MethodType(lambda self, work: work(), model)
    fsdp.register_fsdp_forward_method(model, "inside")
    object.__setattr__(model, _PLAIN, plain)
    model.register_state_dict_post_hook(lambda module, state, prefix, metadata: _gathered(state, ranks))
    model.register_load_state_dict_pre_hook(_distributed_weights)
    return model


def shard_optimizer(optimizer: Any, ranks: Ranks) -> Any:
    """The optimiser of a sharded model, whose state is saved and read whole."""
    if isinstance(optimizer, Masters):
        optimizer.kept, optimizer.like = (lambda x: _kept(x, ranks)), _like
        shard_optimizer(optimizer.optimizer, ranks)
        return optimizer
    optimizer.register_state_dict_post_hook(lambda own, state: _gathered_moments(state, ranks))
    optimizer.register_load_state_dict_pre_hook(_distributed_moments)
    return optimizer


def is_sharded(model: Any) -> bool:
    """True for a model from `shard`."""
    return hasattr(model, _PLAIN)


def inside(model: Any, work: Callable[[], T]) -> T:
    """``work()`` as if it were the model's own forward pass, so that it finds the output layer and embeddings whole."""
    return model.inside(work) if is_sharded(model) else work()


@contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Weights whole in every process inside the block: forward passes wait for nobody, and their number may differ.

    Nothing is differentiated inside. It takes the memory of all weights; layer by layer would need every process to make
    the same number of passes, which completions of different lengths do not.
    """
    if not is_sharded(model):
        yield
        return
    model.set_reshard_after_forward(False)
    for unit in _units(model):
        unit.unshard()
    try:
        yield
    finally:
        model.set_reshard_after_forward(True)
        model.set_reshard_after_forward(False, recurse=False)  # the root is needed again at once by the backward pass
        for unit in _units(model):
            unit.reshard()


def whole(model: Any) -> Any:
    """A plain copy of a sharded model, in every process; a plain model is returned as it is."""
    if not is_sharded(model):
        return model
    plain = copy.deepcopy(getattr(model, _PLAIN))
    found = {name: p.detach().full_tensor() for name, p in model.named_parameters(remove_duplicate=False)}
    for name, module in plain.named_modules():
        for key, p in list(module._parameters.items()):
            if p is not None:
                full = found[f"{name}.{key}" if name else key]
                module._parameters[key] = torch.nn.Parameter(full, p.requires_grad)
    plain.tie_weights()
    return plain


def _units(model: Any) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [x for x in model.modules() if isinstance(x, FSDPModule)]


def _kept(x: Any, ranks: Ranks) -> Any:
    """A whole tensor in the memory of the first process's machine; every process must ask."""
    if not hasattr(x, "full_tensor"):
        return x
    full = x.detach().full_tensor()
    return full.cpu() if ranks.first else full.new_empty(0, device="cpu")


def _gathered(state: dict[str, Any], ranks: Ranks) -> None:
    for name in list(state):
        state[name] = _kept(state[name], ranks)


def _gathered_moments(state: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    moments = {i: {k: _kept(x, ranks) for k, x in own.items()} for i, own in state["state"].items()}
    return {**state, "state": moments}


def _like(x: Any, p: Any) -> Any:
    """This process's share of a whole tensor, split as ``p`` is."""
    if not hasattr(p, "full_tensor") or hasattr(x, "full_tensor") or x.shape != p.shape:
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x.to(p.device), p.device_mesh, p.placements, src_data_rank=None)


def _distributed_weights(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, p in module.named_parameters(remove_duplicate=False):
        if prefix + name in state:
            state[prefix + name] = _like(state[prefix + name], p)


def _distributed_moments(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {i: {k: _like(x, parameters[int(i)]) for k, x in own.items()} for i, own in state["state"].items()}
    return {**state, "state": moments}
