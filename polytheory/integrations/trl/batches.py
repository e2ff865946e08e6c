"""What travels in TRL's batches, and under which names."""

from __future__ import annotations

from typing import Any

import torch

from polytheory.errors import SettingError

NATIVE = {
    "log_probs_old": "old_per_token_logps",
    "log_probs_ref": "ref_per_token_logps",
    "log_probs_sampler": "sampling_per_token_logps",
}
FORWARD = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles", "image_sizes",
    "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip


def key_of(name: str) -> str:
    """Where a column travels in TRL's batches."""
    return name if name == "advantages" else f"polytheory_{name}"


def trained(inputs: dict[str, Any]) -> torch.Tensor:
    """Trained tokens [n, t]."""
    mask = inputs["completion_mask"]
    return (mask * inputs["tool_mask"] if "tool_mask" in inputs else mask).bool()


def regrouped(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Micro-batches of the same sizes with the rows in the order of their groups. Raises `SettingError` with images."""
    if "pixel_values" in batches[0]:
        raise SettingError("pairs of completions of prompts with images are not carried; take a loss of completions")
    order = torch.cat([batch["polytheory_row"] for batch in batches]).argsort()
    sizes = [len(batch["polytheory_row"]) for batch in batches]
    out: list[dict[str, Any]] = [{} for _ in batches]
    for name, x in batches[0].items():
        if not isinstance(x, torch.Tensor) or x.ndim == 0:
            pieces = [batch[name] for batch in batches]
        else:
            pieces = torch.cat([batch[name] for batch in batches])[order].split(sizes)
        for target, piece in zip(out, pieces, strict=True):
            target[name] = piece
    return out
