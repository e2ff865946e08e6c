"""Softmax policies over tables of logits, one set of parameters per replica, with closed-form derivatives.

With ``f(s, a)`` the features and ``f(s, .)`` averaged under pi written ``fbar(s)``, the score is ``f(s, a) - fbar(s)``
and the Hessian of ``log pi(a | s)`` is minus the covariance of the features under ``pi(. | s)``, whatever the action.
Both act on logits first, as tables [S, A]; parameters see them through the transposed features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.errors import PolicyError
from polytheory.policies import Memoryless


class SoftmaxTable(Memoryless, ABC):
    """What softmax policies on finite states share; subclasses map parameters to logits and back.

    Rows of states and actions are replica-major: row i of n belongs to replica ``i // (n / R)``.
    """

    closed_form = True
    theta: Float[torch.Tensor, "R d"]
    n_states: int
    n_actions: int

    @abstractmethod
    def logits_of(self, theta: Float[torch.Tensor, "R d"]) -> Float[torch.Tensor, "R S A"]:
        """The logits that parameters (or a direction u, as the map is linear) give."""

    @abstractmethod
    def pull_back(self, g: Float[torch.Tensor, "n S A"]) -> Float[torch.Tensor, "n d"]:
        """Derivatives with respect to logits as derivatives with respect to parameters."""

    @abstractmethod
    def with_theta(self, theta: Float[torch.Tensor, "R d"]) -> Any:
        """The same policy class at other parameters (R may differ)."""

    def __call__(self, state: Any) -> Any:
        """The policy at the parameters of a state."""
        return self.with_theta(state.theta)

    @contextmanager
    def at(self, theta: Float[torch.Tensor, "R d"]) -> Iterator[Any]:
        """The policy to sample from at ``theta``; tables hold no weights that need restoring."""
        yield self.with_theta(theta)

    @property
    def replicas(self) -> int:
        """Number of parameter vectors R."""
        return int(self.theta.shape[0])

    @cached_property
    def log_pi(self) -> Float[torch.Tensor, "R S A"]:
        """Log-probabilities of all actions in all states."""
        return torch.log_softmax(self.logits_of(self.theta), dim=-1)

    @cached_property
    def pi(self) -> Float[torch.Tensor, "R S A"]:
        """Probabilities of all actions in all states."""
        return torch.softmax(self.logits_of(self.theta), dim=-1)

    def table(self) -> Float[torch.Tensor, "R S A"]:
        """Action probabilities as one table: a batched access then needs no call per step."""
        return self.pi

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " n"]) -> Float[torch.Tensor, "n A"]:
        """Action probabilities in the states ``s``."""
        rows = self.pi.reshape(-1, self.n_actions)
        return rows[(self._offset(len(s)) + s[:, None])[:, 0]]

    def scores(self) -> Float[torch.Tensor, "R S A d"]:
        """``grad log pi(a | s)`` for every state and action."""
        R, S, A = self.replicas, self.n_states, self.n_actions
        centred = torch.eye(A).to(self.pi) - self.pi[:, :, None, :]  # derivative of log pi(a | s) in the logits of s
        logits = torch.einsum("rsab,st->rsatb", centred, torch.eye(S).to(self.pi))
        return self.pull_back(logits.reshape(R * S * A, S, A)).view(R, S, A, -1)

    def log_probs(
        self, states: Int[torch.Tensor, "n t"], actions: Int[torch.Tensor, "n t"]
    ) -> Float[torch.Tensor, "n t"]:
        """Log-probabilities of actions, differentiable in ``theta``."""
        return self._take(self.log_pi, self._cells(states, actions))

    def directional(
        self, states: Int[torch.Tensor, "n t"], actions: Int[torch.Tensor, "n t"], u: Float[torch.Tensor, "R d"]
    ) -> Float[torch.Tensor, "n t"]:
        """``score(s, a) . u`` for every step."""
        along = self.logits_of(u)
        return self._take(along - (self.pi * along).sum(-1, keepdim=True), self._cells(states, actions))

    def score_sum(
        self,
        states: Int[torch.Tensor, "n t"],
        actions: Int[torch.Tensor, "n t"],
        weights: Float[torch.Tensor, "n t"],
    ) -> Float[torch.Tensor, "n d"]:
        """``sum_t weights_t score(s_t, a_t)`` for every row."""
        n, S, A = len(states), self.n_states, self.n_actions
        taken = weights.new_zeros(n, S * A).scatter_add_(1, states * A + actions, weights).view(n, S, A)
        mass = taken.sum(-1, keepdim=True).view(self.replicas, -1, S, 1)
        return self.pull_back(taken - (mass * self.pi[:, None]).view(n, S, A))

    def hvp_sum(
        self,
        states: Int[torch.Tensor, "n t"],
        actions: Int[torch.Tensor, "n t"],
        weights: Float[torch.Tensor, "n t"],
        u: Float[torch.Tensor, "R d"],
    ) -> Float[torch.Tensor, "n d"]:
        """``sum_t weights_t (hess log pi(a_t | s_t)) u`` for every row."""
        n, S, A = len(states), self.n_states, self.n_actions
        along = self.logits_of(u)
        centred = self.pi * (along - (self.pi * along).sum(-1, keepdim=True))
        mass = weights.new_zeros(n, S).scatter_add_(1, states, weights).view(self.replicas, -1, S, 1)
        return self.pull_back(-(mass * centred[:, None]).view(n, S, A))

    def _offset(self, n: int) -> Int[torch.Tensor, "n 1"]:
        if n % self.replicas:
            raise PolicyError(f"{n} rows cannot be shared by {self.replicas} replicas of theta; pass a multiple")
        replica = torch.arange(self.replicas, device=self.theta.device).repeat_interleave(n // self.replicas)
        return (replica * self.n_states)[:, None]

    def _cells(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return (self._offset(len(states)) + states) * self.n_actions + actions

    def _take(self, table: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        return table.reshape(-1)[cells]


class LinearSoftmax(SoftmaxTable):
    """``pi(a | s)`` proportional to ``exp(features[s, a] . theta)``.

    Args:
        features: [S, A, d].
        theta: [R, d], one row per replica.

    Raises `PolicyError` when the shapes do not fit.
    """

    def __init__(self, features: Float[torch.Tensor, "S A d"], theta: Float[torch.Tensor, "R e"]):
        if theta.shape[1] != features.shape[2]:
            raise PolicyError(f"features have d = {features.shape[2]}; theta must be [R, d], got {list(theta.shape)}")
        self.features, self.theta = features, theta
        self.n_states, self.n_actions = int(features.shape[0]), int(features.shape[1])

    def with_theta(self, theta: Float[torch.Tensor, "R d"]) -> LinearSoftmax:
        """The same features with other parameters."""
        return LinearSoftmax(self.features.to(theta.device), theta)

    def logits_of(self, theta: Float[torch.Tensor, "R d"]) -> Float[torch.Tensor, "R S A"]:
        """``features . theta``."""
        return (theta @ self._matrix.T).view(-1, self.n_states, self.n_actions)

    def pull_back(self, g: Float[torch.Tensor, "n S A"]) -> Float[torch.Tensor, "n d"]:
        """``sum_{s, a} g(s, a) features(s, a)``."""
        return g.reshape(len(g), -1) @ self._matrix

    @property
    def _matrix(self) -> Float[torch.Tensor, "SA d"]:
        return self.features.reshape(self.n_states * self.n_actions, -1)


class TabularSoftmax(SoftmaxTable):
    """One logit per state and action: ``theta`` [R, S * A], action fastest.

    Raises `PolicyError` when the shape does not fit.
    """

    def __init__(self, theta: Float[torch.Tensor, "R d"], n_states: int, n_actions: int):
        if theta.shape[1] != n_states * n_actions:
            raise PolicyError(f"theta must be [R, S * A] = [R, {n_states * n_actions}]; got {list(theta.shape)}")
        self.theta, self.n_states, self.n_actions = theta, n_states, n_actions

    @classmethod
    def zeros(cls, n_states: int, n_actions: int) -> TabularSoftmax:
        """Every action equally likely in every state; one row, shared by all replicas."""
        return cls(torch.zeros(1, n_states * n_actions, dtype=torch.float64), n_states, n_actions)

    def with_theta(self, theta: Float[torch.Tensor, "R d"]) -> TabularSoftmax:
        """The same sizes with other parameters."""
        return TabularSoftmax(theta, self.n_states, self.n_actions)

    def logits_of(self, theta: Float[torch.Tensor, "R d"]) -> Float[torch.Tensor, "R S A"]:
        """The parameters are the logits."""
        return theta.reshape(-1, self.n_states, self.n_actions)

    def pull_back(self, g: Float[torch.Tensor, "n S A"]) -> Float[torch.Tensor, "n d"]:
        """Flatten."""
        return g.reshape(len(g), -1)


def one_logit_per_state(n_states: int) -> LinearSoftmax:
    """Two actions, ``pi(1 | s) = sigmoid(theta_s)``, started at 0: Fisher-non-degenerate on bounded sets."""
    features = torch.zeros(n_states, 2, n_states, dtype=torch.float64)
    features[:, 1] = torch.eye(n_states, dtype=torch.float64)
    return LinearSoftmax(features, torch.zeros(1, n_states, dtype=torch.float64))


def shared_logit(n_states: int) -> LinearSoftmax:
    """Two actions, ``pi(1 | s) = sigmoid(theta)`` in every state, started at 0: a class too small for most models."""
    features = torch.zeros(n_states, 2, 1, dtype=torch.float64)
    features[:, 1] = 1.0
    return LinearSoftmax(features, torch.zeros(1, 1, dtype=torch.float64))
