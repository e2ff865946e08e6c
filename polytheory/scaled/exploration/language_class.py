"""Agnostic selection for language models: the class is a set of adapters, prompts or checkpoints, a state is a prefix.

A text is its own history, so that any prefix can be restored: the model is a local simulator, and the transitions are
deterministic. What carries over:

* `tree_values`: greedy members that agree so far share a prefix, and a completion is scored once however many members write
  it. The number of distinct prefixes is the empirical spanning capacity of the class on these prompts.
* `mixture_values`: completions sampled from the uniform mixture of the members evaluate all of them, with the weights of
  POPLER's core: ``pi_k / mean_j pi_j``, at most K.
* `psdp_over_cuts`: exploratory resets are prefixes of demonstrations. The last token's member is chosen first, then the one
  before, each with the later ones frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access.batched import inverse_cdf
from polytheory.errors import SettingError
from polytheory.streams import row_ids, uniforms

Prefix = tuple[int, ...]
Score = Callable[[Prefix], float]
"""Reward of a whole text (prompt and completion, the end token included if there is one)."""


@runtime_checkable
class Members(Protocol):
    """K policies over tokens. ``next_log_probs(k, prefixes)`` [m, V]: float64 log-probs of the next token after each prefix,
    of the law that member k samples from (after temperature and truncation)."""

    def __len__(self) -> int: ...
    def next_log_probs(self, k: int, prefixes: Sequence[Prefix]) -> Float[torch.Tensor, "m V"]: ...


@dataclass(frozen=True, eq=False)
class TabularMembers:
    """Members given by tables of logits on the contexts of a `TabularLM`: exact, for tests and teaching.

    Fields: ``lm``; ``logits`` [K, C, V].
    """

    lm: Any
    logits: Float[torch.Tensor, "K C V"]

    def __len__(self) -> int:
        return len(self.logits)

    def next_log_probs(self, k: int, prefixes: Sequence[Prefix]) -> Float[torch.Tensor, "m V"]:
        """Log-softmax of the rows of these contexts."""
        place = {context: c for c, context in enumerate(self.lm.contexts)}
        rows = torch.tensor([place[p] for p in prefixes], dtype=torch.int64)
        return torch.log_softmax(self.logits[k, rows].double(), dim=-1)


class TreeValues(NamedTuple):
    """``values`` [K] mean score of each member; ``prefixes`` [T] distinct (prefix, token) pairs by length; ``scored``
    completions that were scored."""

    values: Float[torch.Tensor, " K"]
    prefixes: tuple[int, ...]
    scored: int


def tree_values(members: Members, prompts: Sequence[Prefix], score: Score, *, max_new: int, eos: int) -> TreeValues:
    """Mean score of every member's greedy completion of the prompts, each distinct completion scored once.

    Args:
        max_new: tokens after which a completion is cut, >= 1. eos: the token that ends it.
    """
    if max_new < 1 or not prompts:
        raise SettingError(f"max_new = {max_new} on {len(prompts)} prompts; at least 1 token and 1 prompt are needed")
    texts = [list(prompts) for _ in range(len(members))]
    alive = [[True] * len(prompts) for _ in range(len(members))]
    widths = []
    for _ in range(max_new):
        met: set[Prefix] = set()
        for k in range(len(members)):
            rows = [i for i in range(len(prompts)) if alive[k][i]]
            if not rows:
                continue
            distinct = sorted({texts[k][i] for i in rows})
            tokens = members.next_log_probs(k, distinct).argmax(1).tolist()
            after = dict(zip(distinct, tokens, strict=True))
            for i in rows:
                token = after[texts[k][i]]
                texts[k][i] = (*texts[k][i], token)
                alive[k][i] = token != eos
                met.add(texts[k][i])
        widths.append(len(met))
    scores = {text: float(score(text)) for text in sorted({text for own in texts for text in own})}
    values = torch.tensor([[scores[text] for text in own] for own in texts], dtype=torch.float64).mean(1)
    return TreeValues(values, tuple(widths), len(scores))


def mixture_weights(log_probs: Float[torch.Tensor, "K n"]) -> Float[torch.Tensor, "K n"]:
    """``pi_k(y) / mean_j pi_j(y)`` for completions drawn from the uniform mixture of the members: mean 1, at most K."""
    mean = torch.logsumexp(log_probs, dim=0) - float(np.log(len(log_probs)))
    return torch.exp(log_probs - mean)


def mixture_values(
    log_probs: Float[torch.Tensor, "K n"], rewards: Float[torch.Tensor, " n"]
) -> Float[torch.Tensor, " K"]:
    """Every member's expected reward, unbiased, from completions that the uniform mixture of the members sampled.

    ``log_probs`` are summed over the tokens of each completion.
    """
    return (mixture_weights(log_probs) * rewards).mean(1)


class Cuts(NamedTuple):
    """``chosen`` [T]: the member that writes token t; ``gains`` [T, K]: estimated scores of each, given the later ones."""

    chosen: Int[torch.Tensor, " T"]
    gains: Float[torch.Tensor, "T K"]


def psdp_over_cuts(
    members: Members, prefixes: Sequence[Sequence[Prefix]], score: Score, *, samples: int, eos: int, seed: int = 0
) -> Cuts:
    """PSDP over the cut: reset to a demonstration's prefix, let each member write one token, and the chosen ones the rest.

    Args:
        prefixes: for each t, the prefixes at which token t is to be written (none of them ended), drawn from demonstrations.
        samples: completions from each prefix and member, >= 1. All members share their random numbers.

    The choice of a member for each position is a product class: the result need not be any one member.
    """
    T, K = len(prefixes), len(members)
    if samples < 1 or not T or not all(len(p) for p in prefixes):
        raise SettingError(
            f"{T} cuts with {[len(p) for p in prefixes]} prefixes, samples = {samples}; none may be empty"
        )
    chosen, gains = torch.full((T,), -1), torch.zeros(T, K, dtype=torch.float64)
    for t in reversed(range(T)):
        starts = [p for p in prefixes[t] for _ in range(samples)]
        ids = torch.as_tensor(row_ids(0, np.arange(len(starts))))
        u = uniforms(seed, "psdp-over-cuts", t, ids, T - t)
        for k in range(K):
            texts, done = list(starts), [False] * len(starts)
            for j in range(t, T):
                rows = [i for i in range(len(texts)) if not done[i]]
                if not rows:
                    break
                writer = k if j == t else int(chosen[j])
                distinct = sorted({texts[i] for i in rows})
                place = {p: i for i, p in enumerate(distinct)}
                probs = members.next_log_probs(writer, distinct).exp()[[place[texts[i]] for i in rows]]
                for i, token in zip(rows, inverse_cdf(probs, u[rows, j - t]).tolist(), strict=True):
                    texts[i], done[i] = (*texts[i], token), token == eos
            gains[t, k] = float(np.mean([score(text) for text in texts]))
        chosen[t] = int(gains[t].argmax())
    return Cuts(chosen, gains)
