"""Policies of many rows at once: members of a class, mixtures by replica, and the detours that estimators need."""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.policies import Memoryless
from polytheory.policy_classes import PolicyClass


class UniformPolicy(Memoryless):
    """Every action equally likely."""

    def __init__(self, n_actions: int):
        self.n_actions = n_actions

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, "m A"]:
        """Action probabilities in the states ``s``."""
        return torch.full((len(s), self.n_actions), 1 / self.n_actions, dtype=torch.float64, device=s.device)


class TablePolicy(Memoryless):
    """Replica j follows ``tables[j]`` [S, A]; rows are ordered replica-major in equal shares."""

    def __init__(self, tables: Float[torch.Tensor, "n S A"]):
        self.tables = tables

    def table(self) -> Float[torch.Tensor, "n S A"]:
        """Action probabilities by replica and state."""
        return self.tables

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, "m A"]:
        """Action probabilities in the states ``s``."""
        replica = torch.arange(len(s), device=s.device) // (len(s) // len(self.tables))
        return self.tables[replica, s]


class MemberPolicies(TablePolicy):
    """Replica j follows member ``chosen[j]`` of a class."""

    def __init__(self, policies: PolicyClass, chosen: Int[torch.Tensor, " n"]):
        self.chosen = chosen
        actions = torch.tensor(policies.by_state[chosen.numpy(force=True)], device=chosen.device)
        super().__init__(torch.nn.functional.one_hot(actions, policies.A).double())


class LayerExplorer(Memoryless):
    """Row i follows the table of its replica, except at layer ``acting[i]``, where it acts uniformly."""

    def __init__(self, tables: Float[torch.Tensor, "n S A"], acting: Int[torch.Tensor, " m"], n: int):
        self.tables, self.acting, self.n = tables, acting, n
        self.replica = torch.arange(len(acting), device=acting.device) // (len(acting) // len(tables))

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        explore = (s // self.n == self.acting)[:, None]
        return torch.where(explore, 1 / self.tables.shape[2], self.tables[self.replica, s])


class RowPolicy(Memoryless):
    """Row i takes ``actions[i, s]``."""

    def __init__(self, actions: Int[torch.Tensor, "m S"], n_actions: int):
        self.actions, self.n_actions = actions, n_actions

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        taken = self.actions.gather(1, s[:, None])[:, 0]
        return torch.nn.functional.one_hot(taken, self.n_actions).double()


class FirstAction(Memoryless):
    """Row i takes ``first[i]`` at its first step and then follows ``tables[test[i]]`` [S]."""

    def __init__(
        self,
        first: Int[torch.Tensor, " m"],
        tables: Int[torch.Tensor, "F S"],
        test: Int[torch.Tensor, " m"],
        n_actions: int,
    ):
        self.first, self.tables, self.test, self.n_actions = first, tables, test, n_actions

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        taken = self.first if h == 0 else self.tables[self.test, s]
        return torch.nn.functional.one_hot(taken, self.n_actions).double()
