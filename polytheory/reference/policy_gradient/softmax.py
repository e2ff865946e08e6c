"""Softmax policies over tables of logits, with closed-form derivatives.

With features f(s, a) and their mean ``fbar(s) = sum_a pi(a | s) f(s, a)``, the score is ``f(s, a) - fbar(s)``, and the
Hessian of ``log pi(a | s)`` is minus the covariance of f under ``pi(. | s)``, whatever the action [sutton2018, ch. 13].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import PolicyError
from polytheory.policies import Memoryless


class SoftmaxTable(Memoryless, ABC):
    """What softmax policies on finite states share; subclasses map parameters to logits and back, linearly."""

    theta: Float[np.ndarray, " d"]
    n_states: int
    n_actions: int

    @abstractmethod
    def logits_of(self, theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, "S A"]:
        """The logits that parameters (or a direction u, as the map is linear) give."""

    @abstractmethod
    def pull_back(self, g: Float[np.ndarray, "n S A"]) -> Float[np.ndarray, "n d"]:
        """Derivatives with respect to logits as derivatives with respect to parameters."""

    @abstractmethod
    def with_theta(self, theta: Float[np.ndarray, " d"]) -> Any:
        """The same policy class at other parameters."""

    def __call__(self, state: Any) -> Any:
        """The policy at the parameters of a learner's state: it makes the field ``policy`` answer ``policy(state)``."""
        return self.with_theta(state.theta)

    @cached_property
    def log_pi(self) -> Float[np.ndarray, "S A"]:
        """Log-probabilities of all actions in all states."""
        logits = self.logits_of(self.theta)
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    @cached_property
    def pi(self) -> Float[np.ndarray, "S A"]:
        """Probabilities of all actions in all states."""
        logits = self.logits_of(self.theta)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def table(self) -> Float[np.ndarray, "S A"]:
        """Action probabilities as one table."""
        return self.pi

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """Action probabilities in the states ``s``."""
        return self.pi[s]

    def scores(self) -> Float[np.ndarray, "S A d"]:
        """``grad log pi(a | s)`` for every state and action."""
        S, A = self.n_states, self.n_actions
        centred = np.eye(A)[None] - self.pi[:, None, :]  # derivative of log pi(a | s) in the logits of s
        logits = np.einsum("sab,st->satb", centred, np.eye(S))
        return self.pull_back(logits.reshape(S * A, S, A)).reshape(S, A, -1)

    def curvatures(self) -> Float[np.ndarray, "S d d"]:
        """``hess log pi(a | s)``, the same for every action."""
        z = self.scores()
        return -np.einsum("sa,sad,sae->sde", self.pi, z, z)

    def log_probs(self, states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"]) -> Float[np.ndarray, "n t"]:
        """Log-probabilities of actions."""
        return self.log_pi[states, actions]

    def directional(
        self, states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"], u: Float[np.ndarray, " d"]
    ) -> Float[np.ndarray, "n t"]:
        """``score(s, a) . u`` for every step."""
        along = self.logits_of(u)
        return (along - (self.pi * along).sum(axis=1, keepdims=True))[states, actions]

    def score_sum(
        self, states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"], weights: Float[np.ndarray, "n t"]
    ) -> Float[np.ndarray, "n d"]:
        """``sum_t weights_t score(s_t, a_t)`` for every row; masked steps must have weight 0."""
        taken = self._add_up(states, actions, weights)
        return self.pull_back(taken - taken.sum(axis=2, keepdims=True) * self.pi)

    def hvp_sum(
        self,
        states: Int[np.ndarray, "n t"],
        actions: Int[np.ndarray, "n t"],
        weights: Float[np.ndarray, "n t"],
        u: Float[np.ndarray, " d"],
    ) -> Float[np.ndarray, "n d"]:
        """``sum_t weights_t (hess log pi(a_t | s_t)) u`` for every row; masked steps must have weight 0."""
        along = self.logits_of(u)
        covariance_u = self.pi * (along - (self.pi * along).sum(axis=1, keepdims=True))
        mass = self._add_up(states, actions, weights).sum(axis=2, keepdims=True)
        return self.pull_back(-mass * covariance_u)

    def _add_up(self, states: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Total weight of each state and action in each row, [n, S, A]."""
        n, S, A = len(states), self.n_states, self.n_actions
        cells = (np.arange(n)[:, None] * S + states) * A + actions
        return np.bincount(cells.ravel(), weights.ravel(), minlength=n * S * A).reshape(n, S, A)


class LinearSoftmax(SoftmaxTable):
    """``pi(a | s)`` proportional to ``exp(features[s, a] . theta)``.

    Args:
        features: [S, A, d].
        theta: [d].

    Raises `PolicyError` when the shapes do not fit.
    """

    def __init__(self, features: Float[np.ndarray, "S A d"], theta: Float[np.ndarray, " e"]):
        if theta.shape[0] != features.shape[2]:
            raise PolicyError(f"features have d = {features.shape[2]}; theta must be [d], got {list(theta.shape)}")
        self.features, self.theta = features, theta
        self.n_states, self.n_actions = int(features.shape[0]), int(features.shape[1])

    def with_theta(self, theta: Float[np.ndarray, " d"]) -> LinearSoftmax:
        """The same features with other parameters."""
        return LinearSoftmax(self.features, theta)

    def logits_of(self, theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, "S A"]:
        """``features . theta``."""
        return self.features @ theta

    def pull_back(self, g: Float[np.ndarray, "n S A"]) -> Float[np.ndarray, "n d"]:
        """``sum_{s, a} g(s, a) features(s, a)``."""
        return g.reshape(len(g), -1) @ self.features.reshape(self.n_states * self.n_actions, -1)


class TabularSoftmax(SoftmaxTable):
    """One logit per state and action: ``theta`` [S * A], action fastest.

    Its Fisher matrix has a null direction per state, so that the global guarantee does not apply (see `exact`).
    Raises `PolicyError` when the shape does not fit.
    """

    def __init__(self, theta: Float[np.ndarray, " d"], n_states: int, n_actions: int):
        if theta.shape[0] != n_states * n_actions:
            raise PolicyError(f"theta must be [S * A] = [{n_states * n_actions}]; got {list(theta.shape)}")
        self.theta, self.n_states, self.n_actions = theta, n_states, n_actions

    @classmethod
    def zeros(cls, n_states: int, n_actions: int) -> TabularSoftmax:
        """Every action equally likely in every state."""
        return cls(np.zeros(n_states * n_actions), n_states, n_actions)

    def with_theta(self, theta: Float[np.ndarray, " d"]) -> TabularSoftmax:
        """The same sizes with other parameters."""
        return TabularSoftmax(theta, self.n_states, self.n_actions)

    def logits_of(self, theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, "S A"]:
        """The parameters are the logits."""
        return theta.reshape(self.n_states, self.n_actions)

    def pull_back(self, g: Float[np.ndarray, "n S A"]) -> Float[np.ndarray, "n d"]:
        """The parameters are the logits."""
        return g.reshape(len(g), -1)


def one_logit_per_state(n_states: int) -> LinearSoftmax:
    """Two actions, ``pi(1 | s) = sigmoid(theta_s)``, started at 0: Fisher-non-degenerate on bounded sets."""
    features = np.zeros((n_states, 2, n_states))
    features[:, 1] = np.eye(n_states)
    return LinearSoftmax(features, np.zeros(n_states))


def shared_logit(n_states: int) -> LinearSoftmax:
    """Two actions, ``pi(1 | s) = sigmoid(theta)`` in every state, started at 0: a class too small for most models."""
    features = np.zeros((n_states, 2, 1))
    features[:, 1] = 1.0
    return LinearSoftmax(features, np.zeros(1))
