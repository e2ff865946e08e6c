"""Generated batches of completions for the post-training tests, and one way to call a loss of either room."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from polytheory.parts import Kind, Unit
from polytheory.reference import posttraining as reference_family
from polytheory.reference.posttraining import base as reference
from polytheory.scaled import posttraining as scaled_family
from polytheory.scaled.posttraining import base as scaled

for _family in (reference_family, scaled_family):  # every method registers its parts on import
    for _module in pkgutil.iter_modules(_family.__path__):
        importlib.import_module(f"{_family.__name__}.{_module.name}")

LOSSES = reference.PARTS.names(Kind.LOSS)
REGISTRIES = {"reference": reference.PARTS, "scaled": scaled.PARTS}


def batch(seed: int, n_groups: int, scale: float = 0.5, t: int = 4) -> dict[str, Any]:
    """A batch with every column that a loss of the family reads: unequal groups of at least two, lengths 1 to t, holes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, n_groups)
    n = int(sizes.sum())
    mask = np.arange(t) < rng.integers(1, t + 1, n)[:, None]
    mask[:, 1:] &= rng.random((n, t - 1)) < 0.8  # a tool's tokens in between
    now = -rng.exponential(1.5, (n, t))
    frozen = {f"log_probs_{k}": now + scale * rng.normal(size=(n, t)) for k in ("old", "ref", "sampler", "prev")}
    verdict = rng.integers(0, 2, n).astype(float)
    return {
        "actions": rng.integers(0, 5, (n, t)), "mask": mask, "group": np.repeat(np.arange(n_groups), sizes),
        "score": rng.integers(-2, 3, n) / 2, "log_probs": now, **frozen, "values": rng.normal(size=(n, t)),
        "advantages": np.where(rng.random(n) < 0.2, 0.0, rng.normal(size=n)), "verdict": verdict,
        "weight": rng.random(n), "bundle": rng.integers(0, 3, n),
        "r_hat": 0.05 + 0.9 * rng.random(n_groups)[np.repeat(np.arange(n_groups), sizes)],
        "pairs": np.array([rng.permutation(n)[:2] for _ in range(n)]), "baseline": rng.normal(size=n),
    }  # fmt: skip


def batches(max_groups: int = 3) -> Any:
    """Draws batches; peaked and identical policies too."""
    return st.builds(batch, st.integers(0, 10**6), st.integers(1, max_groups), st.sampled_from([0.0, 0.1, 0.5, 1.5]))


def counts_of(columns: dict[str, Any]) -> tuple[int, int, int]:
    """Tokens, sequences and pairs of a whole batch."""
    return int(columns["mask"].sum()), len(columns["mask"]), len(columns["pairs"])


def loss_and_gradient(
    room: str, name: str, columns: dict[str, Any], *, normalisation: str = "seq_mean",
    counts: tuple[int, int, int] | None = None, dtype: torch.dtype = torch.float64, **settings: Any,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Loss of one part under the room's own averaging, and its gradient in ``log_probs``, as float64."""
    counts = counts or counts_of(columns)
    if room == "reference":
        module = importlib.import_module("polytheory.reference.posttraining.composition")
        uses = [module.Use(name, settings)]
        value, gradient = module.evaluate(
            columns, uses, normalisation=normalisation, max_length=8, counts=reference.Counts(*counts)
        )
        return value, gradient["log_probs"]
    module = importlib.import_module("polytheory.scaled.posttraining.composition")
    inside = tensors(columns, dtype)
    inside["log_probs"].requires_grad_(True)
    value = module.evaluate(
        inside, [module.Use(name, settings)], normalisation=normalisation, max_length=8, counts=scaled.Counts(*counts)
    )
    (gradient,) = torch.autograd.grad(value, inside["log_probs"], allow_unused=True)
    gradient = torch.zeros_like(inside["log_probs"]) if gradient is None else gradient
    return float(value.detach()), gradient.double().numpy()


def tensors(columns: dict[str, Any], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """The columns as tensors, numbers in ``dtype``."""
    out = {name: torch.from_numpy(np.array(x)) for name, x in columns.items()}
    return {name: x.to(dtype) if x.dtype.is_floating_point else x for name, x in out.items()}


def rows_of(columns: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """The columns of some rows; pairs, which name rows, are renamed where both are there and dropped where not."""
    place = np.full(len(columns["mask"]), -1)
    place[rows] = np.arange(len(rows))
    pairs = place[columns["pairs"]]
    kept = {name: x[rows] for name, x in columns.items() if name != "pairs"}
    return {**kept, "pairs": pairs[(pairs >= 0).all(axis=1)]}


def is_of_pairs(name: str) -> bool:
    """True for a loss of pairs."""
    return reference.PARTS[name].unit == Unit.PAIR


def is_of_groups(name: str) -> bool:
    """True for a loss that needs whole groups."""
    return reference.PARTS[name].unit == Unit.GROUP
