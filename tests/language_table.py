"""A tabular language model in the clothes of a transformers model: logits are a table over contexts, float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from polytheory.access import Key, Online, Requests
from polytheory.models.registry import make
from polytheory.models.tabular_lm import TabularLM
from polytheory.scaled.posttraining.softmax import TabularSoftmax
from polytheory.trajectories import Trajectories


class TableModel(torch.nn.Module):
    """Logits [C + 1, V] over the contexts of a `TabularLM`; a prompt is one token, which is ignored."""

    dtype = torch.float64

    def __init__(self, lm: TabularLM):
        super().__init__()
        self.lm = lm
        self.head = torch.nn.Linear(lm.C + 1, lm.V, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(self.head.weight)

    def base_model(self, input_ids, attention_mask, position_ids, use_cache):
        """One-hot contexts as hidden states."""
        n, t = input_ids.shape
        found = torch.full((n, t), self.lm.C)
        for i, ids in enumerate(input_ids.tolist()):
            for j in range(t):
                prefix = tuple(ids[1 : j + 1])
                if prefix in self.lm.contexts:
                    found[i, j] = self.lm.contexts.index(prefix)
        return SimpleNamespace(last_hidden_state=torch.nn.functional.one_hot(found, self.lm.C + 1).double())

    def get_output_embeddings(self):
        return self.head

    @property
    def table(self):
        return self.head.weight.detach().T.contiguous()


class TokenWorld:
    """The token MDP behind the face of `Prompts`: completions come from the tabular sampler."""

    grants = Online.grants
    replicas = 1

    def __init__(self, lm: TabularLM):
        self.inner = Online(make("token-mdp")).replicate(1)
        self.lm, self.spec, self.meter = lm, self.inner.spec, self.inner.meter

    def next_prompts(self, key: Key, first: int, n: int) -> np.ndarray:
        return np.zeros(n, dtype=np.int64)

    def rollouts(self, policy, requests: Requests, key: Key) -> Trajectories:
        table = TabularSoftmax(policy.model.table.reshape(1, -1), self.lm.C + 1, self.lm.V)
        traj = self.inner.rollouts(table, Requests(requests.row_id, requests.truncation), key)
        prompt = torch.zeros((traj.n, 1), dtype=torch.int64)
        columns = {"prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt, dtype=torch.bool)}
        return Trajectories(
            None,
            traj.actions,
            traj.rewards,
            traj.mask,
            traj.log_probs_sampler,
            finished=traj.mask.any(1),
            score=traj.rewards.sum(1),
            columns=columns,
        )
