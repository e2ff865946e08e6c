"""Log-probs and entropies of tokens from hidden states, with their gradients in closed form.

With logits ``z = (h W^T + b) / T`` and ``p = softmax(z)``: ``d log p_y / dz = e_y - p`` and ``dH / dz = -p (log p + H)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import SettingError, ShapeError

Gradients = dict[str, Float[np.ndarray, "..."]]


def token_log_probs(
    hidden: Float[np.ndarray, "n d"],
    head: Float[np.ndarray, "V d"],
    tokens: Int[np.ndarray, " n"],
    *,
    bias: Float[np.ndarray, " V"] | None = None,
    temperature: float = 1.0,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Callable[..., Gradients]]:
    """Log-probs of tokens, entropies of the law they come from, and the pullback of weights on both.

    Args:
        hidden: last hidden states. head: output embedding; logits are ``(hidden @ head.T + bias) / temperature``.
        tokens: ids in [0, V). bias: of the output layer. temperature: > 0.

    Returns:
        ``(log_probs, entropies, pullback)``; ``pullback(weight, entropy_weight)`` gives the gradients of
        ``sum(weight * log_probs + entropy_weight * entropies)`` with respect to ``hidden``, ``head`` and ``bias``.

    Raises:
        ShapeError: shapes disagree. SettingError: temperature out of range, or a token outside of the vocabulary.
    """
    V, d = head.shape
    if hidden.shape != (len(tokens), d):
        raise ShapeError(
            f"hidden {list(hidden.shape)}, tokens [{len(tokens)}], head {[V, d]}; need [n, d], [n], [V, d]"
        )
    if not temperature > 0:
        raise SettingError(f"temperature = {temperature}; logits are divided by it, it must be positive")
    if tokens.size and not (0 <= tokens.min() and tokens.max() < V):
        bad = tokens[(tokens < 0) | (tokens >= V)][0]
        raise SettingError(f"token {bad} is not in the vocabulary of {V}; check tokenizer and model")
    logits = (hidden @ head.T + (0.0 if bias is None else bias)) / temperature
    shifted = logits - logits.max(axis=1, keepdims=True)
    law = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropies = -(np.exp(law) * law).sum(axis=1)

    def pullback(weight: Float[np.ndarray, " n"], entropy_weight: Float[np.ndarray, " n"]) -> Gradients:
        slope = logit_gradient(law, tokens, entropies, weight, entropy_weight) / temperature
        return {"hidden": slope @ head, "head": slope.T @ hidden, "bias": slope.sum(axis=0)}

    return law[np.arange(len(tokens)), tokens], entropies, pullback


def logit_gradient(
    law: Float[np.ndarray, "n V"],
    tokens: Int[np.ndarray, " n"],
    entropy: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    entropy_weight: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n V"]:
    """``weight (e_token - p) - entropy_weight p (log p + H)`` from the log-probs ``law`` of every token."""
    p, chosen = np.exp(law), np.eye(law.shape[1])[tokens]
    return weight[:, None] * (chosen - p) - entropy_weight[:, None] * p * (law + entropy[:, None])
