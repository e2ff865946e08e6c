"""Claims of GRPO: log-probs and entropies from hidden states, and their gradients, whatever the chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim

STEP = 1e-5  # of central differences: errors of order STEP^2 and of rounding / STEP, both about 1e-10 here


@dataclass(frozen=True, eq=False)
class Head:
    """n hidden states under an output layer, with weights on log-probs and entropies."""

    hidden: np.ndarray
    head: np.ndarray
    bias: np.ndarray
    tokens: np.ndarray
    temperature: float
    weight: np.ndarray
    entropy_weight: np.ndarray


def _head(seed: int, n: int, V: int, d: int, temperature: float) -> Head:
    rng = np.random.default_rng(seed)
    return Head(
        rng.normal(size=(n, d)), rng.normal(size=(V, d)), rng.normal(size=V), rng.integers(0, V, n), temperature,
        rng.normal(size=n), rng.normal(size=n),
    )  # fmt: skip


def _heads() -> Any:
    from hypothesis import strategies as st

    return st.builds(
        _head, seed=st.integers(0, 2**16), n=st.integers(1, 5), V=st.integers(1, 6), d=st.integers(1, 3),
        temperature=st.sampled_from([0.5, 0.7, 1.0, 2.0]),
    )  # fmt: skip


def _by_hand(x: Head, i: int) -> tuple[float, float]:
    """Log-prob and entropy of row i by exact sums over the vocabulary."""
    z = [math.fsum([*(a * b for a, b in zip(x.hidden[i], row, strict=True)), c]) / x.temperature
         for row, c in zip(x.head, x.bias, strict=True)]  # fmt: skip
    total = math.fsum(math.exp(v) for v in z)
    p = [math.exp(v) / total for v in z]
    return z[x.tokens[i]] - math.log(total), math.fsum(-q * math.log(q) for q in p)


def _objective(x: Head) -> float:
    both = [_by_hand(x, i) for i in range(len(x.tokens))]
    return math.fsum(w * a + v * b for w, v, (a, b) in zip(x.weight, x.entropy_weight, both, strict=True))


def _found(room: Room, x: Head, rows: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The room's log-probs, entropies and gradients; the scaled one with chunks of so many rows."""
    f = room.part("token_log_probs")
    if room.name == "reference":
        log_probs, entropies, pullback = f(x.hidden, x.head, x.tokens, bias=x.bias, temperature=x.temperature)
        return log_probs, entropies, pullback(x.weight, x.entropy_weight)
    import torch

    hidden, head, bias = (torch.from_numpy(a).requires_grad_(True) for a in (x.hidden, x.head, x.bias))
    log_probs, entropies = f(
        hidden, head, torch.from_numpy(x.tokens), bias=bias, temperature=x.temperature, budget=8 * len(x.head) * rows
    )
    value = torch.from_numpy(x.weight) @ log_probs + torch.from_numpy(x.entropy_weight) @ entropies
    slopes = torch.autograd.grad(value, (hidden, head, bias))
    named = zip(("hidden", "head", "bias"), slopes, strict=True)
    return log_probs.detach().numpy(), entropies.detach().numpy(), {k: v.numpy() for k, v in named}


@claim(
    method="grpo", source="softmax and Shannon entropy", level=Level.PROPERTY,
    statement="log-probs and entropies from hidden states are those of the softmax of the logits over the temperature, "
    "whatever the size of a chunk",
    worked=lambda: [_head(0, 5, 4, 3, 0.7)], generated=_heads,
    breaks=[
        Line("no_temperature_scaled", module="log_probs", room="scaled", old="logits.div_(temperature)", new="logits"),
        Line("no_temperature_reference", module="log_probs", room="reference", old="bias)) / temperature", new="bias))"),
        Line("no_bias_scaled", module="log_probs", room="scaled", old="logits = logits.add_(bias)", new="pass"),
        Line("no_bias_reference", module="log_probs", room="reference", old="0.0 if bias is None else bias", new="0.0"),
        Line("not_normalised", module="log_probs", room="scaled", old="total = masses.sum(-1)", new="total = masses.amax(-1)"),
        Line("last_rows_dropped", module="log_probs", room="scaled",
             old="in range(0, n, rows):\n            s = slice(i, i + rows)\n            logits",
             new="in range(0, n - n % rows, rows):\n            s = slice(i, i + rows)\n            logits"),
        Line("entropy_unweighted", module="log_probs", room="reference", old="-(np.exp(law) * law)", new="-(law)"),
    ],
)  # fmt: skip
def log_probs_of_hidden_states(x: Head, room: Room) -> Margin:
    expected = np.array([_by_hand(x, i) for i in range(len(x.tokens))])
    # u = 2^-53; a logit errs by (d + 2) u z with z the sum of its terms' sizes, a sum over the vocabulary by V u more, and an
    # entropy multiplies both by at most 1 + z: below 2 (d + V + 2) u (1 + z)^2
    d, u = x.hidden.shape[1], 2.0**-53
    z = (d * float(np.abs(x.hidden).max() * np.abs(x.head).max()) + float(np.abs(x.bias).max())) / x.temperature
    size = 2 * (d + len(x.head) + 2) * u * (1 + z) ** 2
    margins = []
    for rows in (1, 2, 100):
        log_probs, entropies, _ = _found(room, x, rows)
        margins += [Margin.equal(log_probs, expected[:, 0], size), Margin.equal(entropies, expected[:, 1], size)]
    return Margin.worst(margins)


@claim(
    method="grpo", source="derivative of softmax and entropy", level=Level.PROPERTY,
    statement="the gradient of log-probs is e_y - p in the logits and that of the entropy -p (log p + H), pulled back to "
    "hidden states, head and bias, whatever the size of a chunk",
    worked=lambda: [_head(1, 5, 4, 3, 0.7)], generated=_heads,
    breaks=[
        Wrap("entropy_without_its_mean", part="logit_gradient", by=lambda f: lambda law, y, h, w, v: f(law, y, 0 * h, w, v)),
        Wrap("entropy_upside_down", part="logit_gradient", by=lambda f: lambda law, y, h, w, v: f(law, y, h, w, -v)),
        Wrap("log_prob_forgotten", part="logit_gradient", by=lambda f: lambda law, y, h, w, v: f(law, y, h, 0 * w, v)),
        Line("no_temperature_scaled", module="log_probs", room="scaled", old="w / ctx.temperature", new="w"),
        Line("no_temperature_reference", module="log_probs", room="reference", old="weight, entropy_weight) / temperature",
             new="weight, entropy_weight)"),
        Line("only_the_last_rows", module="log_probs", room="scaled",
             old="total.addmm_(a, b)", new="total.copy_(a @ b)"),
        Line("last_columns_dropped", module="log_probs", room="scaled",
             old="range(0, V, columns)", new="range(0, V - columns, columns)"),
        Line("last_rows_dropped_backward", module="log_probs", room="scaled",
             old="in range(0, n, rows):\n            s = slice(i, i + rows)\n            law",
             new="in range(0, n - rows, rows):\n            s = slice(i, i + rows)\n            law"),
        Line("own_token_not_added", module="log_probs", room="scaled", old="own = torch.where(", new="own = 0 * torch.where("),
    ],
)  # fmt: skip
def gradients_of_log_probs_of_hidden_states(x: Head, room: Room) -> Margin:
    # a third derivative is at most a few times the cube of the logits' slopes: STEP^2 = 1e-10 of it, and rounding
    # / STEP = 1e-11 of the value, with two orders to spare for the constants
    scale = 1 + float(np.abs(x.hidden).max() + np.abs(x.head).max())
    tolerance = 1e-8 * (scale / x.temperature) ** 3 * float(np.abs(x.weight).sum() + np.abs(x.entropy_weight).sum())
    expected = {name: _differences(x, name) for name in ("hidden", "head", "bias")}
    margins = []
    for rows in (1, 2, 100):
        slopes = _found(room, x, rows)[2]
        margins += [Margin.equal(slopes[name], expected[name], tolerance) for name in expected]
    return Margin.worst(margins)


def _differences(x: Head, name: str) -> np.ndarray:
    """Central differences of the objective in one array."""
    array = getattr(x, name)
    out = np.zeros_like(array)
    for i in np.ndindex(array.shape):
        kept = array[i]
        array[i] = kept + STEP
        up = _objective(x)
        array[i] = kept - STEP
        out[i] = (up - _objective(x)) / (2 * STEP)
        array[i] = kept
    return out
