"""A language model small enough to enumerate every sequence, so that expectations are exact sums.

Vocabulary of V tokens (2 to 4, say), one of them EOS; a sequence stops at EOS or at ``max_length``. The model is a table
of logits, one row per context, a context being a prefix without EOS. As a decision problem it is the token MDP: the state
is the prefix, the action the next token, the transition appends it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import ModelError, ShapeError
from polytheory.models.tabular import TabularMDP

MAX_SEQUENCES = 100_000


class TabularLM:
    """The sequence space of a tiny language model; parameters are passed to its methods as logits ``[C, V]``.

    Args:
        vocabulary: number of tokens V, EOS included, >= 2.
        max_length: longest sequence T, in tokens, >= 1.
        eos: the token that ends a sequence; default the last one, V - 1.

    Fields:
        contexts: prefixes in order of length, then lexicographic; C of them. sequences: all N sequences, same order.
        tokens: [N, T] padded with 0. mask: [N, T] True on tokens, EOS included. context: [N, T] index of the prefix
            before each token, 0 on padding.

    Raises:
        ModelError: a size is out of range, or there would be more than 100000 sequences.
    """

    def __init__(self, vocabulary: int = 3, max_length: int = 3, eos: int | None = None):
        eos = vocabulary - 1 if eos is None else eos
        if vocabulary < 2 or max_length < 1 or not 0 <= eos < vocabulary:
            raise ModelError(
                f"TabularLM(vocabulary = {vocabulary}, max_length = {max_length}, eos = {eos}); at least 2 tokens, 1 step "
                "and an EOS inside the vocabulary are needed"
            )
        if (vocabulary - 1) ** max_length * 2 > MAX_SEQUENCES:
            raise ModelError(f"{vocabulary} tokens and length {max_length} make too many sequences to enumerate")
        self.V, self.T, self.eos = vocabulary, max_length, eos
        words = [v for v in range(vocabulary) if v != eos]
        self.contexts = [p for k in range(max_length) for p in itertools.product(words, repeat=k)]
        ended = [(*p, eos) for p in self.contexts]
        cut = list(itertools.product(words, repeat=max_length))
        self.sequences = sorted(ended + cut, key=lambda y: (len(y), y))
        self.C, self.N = len(self.contexts), len(self.sequences)
        self._index = {p: c for c, p in enumerate(self.contexts)}
        self.tokens = np.zeros((self.N, self.T), dtype=np.int64)
        self.context = np.zeros((self.N, self.T), dtype=np.int64)
        self.mask = np.zeros((self.N, self.T), dtype=bool)
        for i, y in enumerate(self.sequences):
            for t, token in enumerate(y):
                self.tokens[i, t], self.context[i, t], self.mask[i, t] = token, self._index[y[:t]], True

    @property
    def lengths(self) -> Int[np.ndarray, " N"]:
        """Tokens of every sequence, EOS included."""
        return self.mask.sum(axis=1)

    def reward(self, f: Callable[[tuple[int, ...]], float]) -> Float[np.ndarray, " N"]:
        """``f`` of every sequence (a tuple of tokens)."""
        return np.array([float(f(y)) for y in self.sequences])

    def token_log_probs(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, "N T"]:
        """Log-probability of every token of every sequence; 0 on padding."""
        log_p = self._log_softmax(logits)
        return np.where(self.mask, log_p[self.context, self.tokens], 0.0)

    def log_probs(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, " N"]:
        """Log-probability of every sequence."""
        return self.token_log_probs(logits).sum(axis=1)

    def probs(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, " N"]:
        """Probability of every sequence; they sum to 1."""
        return np.exp(self.log_probs(logits))

    def token_scores(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, "N T C V"]:
        """Gradient of every token's log-probability in the logits; 0 on padding."""
        p = np.exp(self._log_softmax(logits))
        i, t = np.nonzero(self.mask)
        c, v = self.context[i, t], self.tokens[i, t]
        scores = np.zeros((self.N, self.T, self.C, self.V))
        scores[i, t, c] -= p[c]
        scores[i, t, c, v] += 1.0
        return scores

    def scores(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, "N C V"]:
        """Gradient of every sequence's log-probability in the logits."""
        return self.token_scores(logits).sum(axis=1)

    def expectation(
        self, logits: Float[np.ndarray, "C V"], values: Float[np.ndarray, "N *d"]
    ) -> Float[np.ndarray, "*d"]:
        """Exact expectation over sequences of ``values``."""
        return np.tensordot(self.probs(logits), values, axes=1)

    def gradient(self, logits: Float[np.ndarray, "C V"], reward: Float[np.ndarray, " N"]) -> Float[np.ndarray, "C V"]:
        """Exact gradient of the expected reward: ``E[R grad log pi]`` [williams1992]."""
        return np.tensordot(self.probs(logits) * reward, self.scores(logits), axes=1)

    def kl(self, logits: Float[np.ndarray, "C V"], other: Float[np.ndarray, "C V"]) -> float:
        """``KL(pi || other)`` between sequence laws, in nats."""
        gap = self.log_probs(logits) - self.log_probs(other)
        return float(self.probs(logits) @ gap)

    def tilted(
        self, ref: Float[np.ndarray, "C V"], reward: Float[np.ndarray, " N"], beta: float
    ) -> Float[np.ndarray, " N"]:
        """The optimum of ``E[R] - beta KL(pi || ref)``: sequence probabilities proportional to ``ref exp(R / beta)``.

        ``beta`` > 0 in units of the reward.
        """
        if not beta > 0:
            raise ModelError(f"beta = {beta}; the regularised optimum needs beta > 0")
        weight = self.log_probs(ref) + reward / beta
        weight = np.exp(weight - weight.max())
        return weight / weight.sum()

    def logits_of(self, probs: Float[np.ndarray, " N"]) -> Float[np.ndarray, "C V"]:
        """Logits of a law on sequences with full support (every law on this tree is a product of token laws)."""
        if probs.shape != (self.N,) or not (probs > 0).all():
            raise ShapeError(f"probs must be {self.N} positive numbers; got shape {list(probs.shape)}")
        mass = np.zeros((self.C, self.V))
        i, t = np.nonzero(self.mask)
        np.add.at(mass, (self.context[i, t], self.tokens[i, t]), probs[i])
        return np.log(mass)

    def nash(self, preference: Float[np.ndarray, "N N"]) -> Float[np.ndarray, " N"]:
        """A Nash policy of the symmetric game ``preference[y, y'] = P(y beats y')``, ``P + P^T = 1``, by linear programming.

        It beats or ties every policy: ``sum_y p(y) P(y, y') >= 1/2`` for all y'.
        """
        from scipy.optimize import linprog

        if not np.allclose(preference + preference.T, 1.0, rtol=0, atol=1e-12):
            raise ModelError("a preference matrix must satisfy P(y, y') + P(y', y) = 1")
        objective = np.append(np.zeros(self.N), -1.0)
        limits = np.column_stack([-preference.T, np.ones(self.N)])
        found = linprog(
            objective, A_ub=limits, b_ub=np.zeros(self.N), A_eq=np.append(np.ones(self.N), 0.0)[None], b_eq=[1.0],
            bounds=[(0, None)] * self.N + [(None, None)], method="highs",
        )  # fmt: skip
        law = np.maximum(found.x[:-1], 0.0)
        return law / law.sum()

    @cached_property
    def _next(self) -> Int[np.ndarray, "C V"]:
        return np.array([[self._index.get((*p, v), -1) for v in range(self.V)] for p in self.contexts])

    def to_tabular(self, reward: Float[np.ndarray, " N"]) -> TabularMDP:
        """The token MDP with ``reward`` paid on the last token: C contexts and one end state, horizon T, gamma 1."""
        end = self.C
        P, r = np.zeros((self.C + 1, self.V, self.C + 1)), np.zeros((self.C + 1, self.V))
        c, v = np.indices((self.C, self.V))
        P[c, v, np.where(self._next < 0, end, self._next)] = 1.0
        P[end, :, end] = 1.0
        last = self.lengths - 1
        rows = np.arange(self.N)
        r[self.context[rows, last], self.tokens[rows, last]] = reward
        terminal = np.arange(self.C + 1) == end
        return TabularMDP(P, r, np.eye(self.C + 1)[0], self.T, 1.0, terminal, name="token-mdp")

    def _log_softmax(self, logits: Float[np.ndarray, "C V"]) -> Float[np.ndarray, "C V"]:
        if logits.shape != (self.C, self.V):
            raise ShapeError(f"logits must be [{self.C}, {self.V}] (contexts, tokens); got {list(logits.shape)}")
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
