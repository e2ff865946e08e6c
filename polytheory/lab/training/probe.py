"""The exact probe: how well a recipe's sampled gradient points where the exact one does.

A language model small enough to list every sequence stands in for the one in training. Its law is tilted so that it is right
as often as the model in training is now; then the recipe's own method samples as many prompts and completions as it does in
training and makes its gradient, which is compared with the exact gradient of the expected score.

What it says: how much of the direction survives sampling noise and the method's own bias at this rate of success, with these
batch sizes. What it does not say: anything about the network in training, its optimiser, or its data. The method starts
without memory and with the current law as reference, so that tracked quantities are fresh and a KL term has no slope. For a
method with another goal (a risk measure, say) a cosine below 1 is its goal, not an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.access import Online
from polytheory.errors import SettingError
from polytheory.lab.training.recipe import Recipe
from polytheory.models.tabular_lm import TabularLM
from polytheory.scaled.posttraining.softmax import TabularSoftmax
from polytheory.streams import subseed

BATCHES = 16  # independent batches of a probe
MARGIN = 0.02  # the success is held this far from 0 and 1, where no gradient is left


class Probe:
    """The probe of one recipe; three tokens, sequences of up to three, right where the first token occurs an odd number of
    times.

    Raises `SettingError` for a recipe that probes less often than never.
    """

    def __init__(self, recipe: Recipe):
        if recipe.output.probe_every < 0:
            raise SettingError(f"probe_every = {recipe.output.probe_every}; 0 probes never, 1 after every step")
        self.recipe, self.lm = recipe, TabularLM(3, 3)
        self.reward = self.lm.reward(lambda y: y.count(1) % 2)
        context, token = np.indices((self.lm.C, self.lm.V))
        self.start = np.sin(3.0 * context + token + 1)
        self.world = Online(self.lm.to_tabular(self.reward))

    def logits(self, success: float) -> Float[np.ndarray, "C V"]:
        """The starting law, tilted so that a sequence is right with probability ``success`` in (0, 1)."""
        p, right = self.lm.probs(self.start), self.reward > 0
        tilt = np.where(right, success / p[right].sum(), (1 - success) / p[~right].sum())
        return self.lm.logits_of(p * tilt)

    def __call__(self, score: float, step: int) -> dict[str, float]:
        """``probe/cosine`` of one batch's gradient with the exact one, mean over batches (0 for a batch without gradient);
        ``probe/cosine_mean`` of the mean of these gradients, in which most of the noise is gone; ``probe/success``."""
        success = float(np.clip(score, MARGIN, 1 - MARGIN))
        logits = self.logits(success)
        exact = self.lm.gradient(logits, self.reward).ravel()
        sampled = self.sampled(logits, step)[:, : exact.size]
        mean = sampled.mean(axis=0)
        return {
            "probe/cosine": float(np.mean([_cosine(g, exact) for g in sampled])),
            "probe/cosine_mean": _cosine(mean, exact),
            "probe/success": success,
        }

    def sampled(self, logits: Float[np.ndarray, "C V"], step: int) -> Float[np.ndarray, "n d"]:
        """Ascent directions of the method from `BATCHES` independent batches."""
        theta = torch.from_numpy(
            np.vstack([logits, np.zeros(self.lm.V)]).reshape(1, -1)
        )  # the end state has logits too
        policy = TabularSoftmax(theta, self.lm.C + 1, self.lm.V)
        method: Any = self.recipe.algorithm()(policy=policy, **self.recipe.settings)
        access = self.world.replicate(BATCHES)
        state = replace(method.init(access, subseed(self.recipe.output.seed, "probe")), t=step)
        _, replicas, _ = method.collect(state, access)
        _, slope = method.gradient(replicas, state.theta)
        return -slope.numpy(force=True)


def _cosine(g: Float[np.ndarray, " d"], exact: Float[np.ndarray, " d"]) -> float:
    size = np.linalg.norm(g) * np.linalg.norm(exact)
    return float(g @ exact / size) if size > 0 else 0.0
