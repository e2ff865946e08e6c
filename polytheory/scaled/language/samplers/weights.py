"""The weights of a model as an engine wants them, and whether they are those that it has."""

from __future__ import annotations

from typing import Any

import torch

from polytheory.scaled.language.adapters import merged

Named = dict[str, torch.Tensor]


@torch.no_grad()
def named_weights(model: Any) -> Named:
    """Every weight by the name that transformers gives it, whole (not sharded), adapters merged into what they adapt.

    The output layer is among them also where it is tied to the embeddings: an engine that holds it apart would keep its old
    one. With sharded parameters every process must call this. Adapters are merged into a copy, since taking a merge back
    would change the weights in training by a rounding.
    """
    model = merged(getattr(model, "module", model))  # under a data-parallel wrapper
    return {name: _whole(x.detach()) for name, x in model.state_dict().items()}


def _whole(x: Any) -> torch.Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


@torch.no_grad()
def fingerprint(weights: Named) -> tuple[Any, ...]:
    """Changes with the weights, however they were written: by an optimiser, through ``.data``, from a checkpoint.

    For every tensor its name, shape, dtype, and two sums of its bits that also notice a change of place; a few passes over
    the memory, which is little beside sending it.
    """
    sums = []
    for x in weights.values():
        bits = x.contiguous().view(_BITS[x.element_size()]) if x.is_floating_point() else x
        rows = bits.reshape(len(bits) if bits.ndim > 1 else 1, -1)
        sums += [_spread(rows.sum(1, dtype=torch.int64)), _spread(rows.sum(0, dtype=torch.int64))]
    described = ((name, tuple(x.shape), str(x.dtype)) for name, x in weights.items())
    return (*described, *torch.stack(sums).tolist()) if sums else ()


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _spread(sums: torch.Tensor) -> torch.Tensor:
    """Sum with odd factors, which differ from place to place."""
    return (sums * (2 * torch.arange(len(sums), device=sums.device) + 1)).sum()
