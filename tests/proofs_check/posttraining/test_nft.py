"""The oracles of NFT's claims are themselves right: optima of prefixes by another optimiser, worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from polytheory.proofs_check.posttraining.nft_optima import best_ratios, nearly_right, success, values_of
from polytheory.proofs_check.posttraining.probe import toy

PROBE = toy()


@pytest.mark.parametrize(
    ("old", "value", "r"),
    [([0.3, 0.7], [0.2, 0.6], 0.5), ([0.2, 0.3, 0.5], [0.9, 0.1, 0.4], 0.3), ([0.5, 0.5], [1.0, 0.3], 0.6),
     ([0.5, 0.3, 0.2], [0.0, 0.0, 0.4], 0.7)],
)  # fmt: skip
def test_best_ratios_beat_what_an_optimiser_finds(old, value, r):
    old, value = np.array(old), np.array(value)

    def loss(ratio):
        with np.errstate(divide="ignore", invalid="ignore"):
            right = np.where(value > 0, value * np.log(ratio), 0.0)
            wrong = np.where(value < 1, (1 - value) * np.log((1 - r * ratio) / (1 - r)), 0.0)
        total = -(old @ (right + wrong))
        return total if np.isfinite(total) else 1e6

    def of(logits):
        law = np.exp(logits - logits.max())
        return law / law.sum() / old

    found = min(
        (minimize(lambda x: loss(of(x)), np.log(old) + start, method="Nelder-Mead", options={"fatol": 1e-13, "maxiter": 4000})
         for start in (0 * old, 0.1 * np.arange(len(old)))), key=lambda x: x.fun,
    )  # fmt: skip
    best = best_ratios(old, value, r)
    assert_allclose(old @ best, 1.0, rtol=1e-12)
    assert loss(best) <= found.fun + 1e-12
    assert_allclose(loss(best), found.fun, atol=1e-8)


def test_worked_numbers_of_the_old_policy():
    r = success(PROBE)
    old, value = values_of(PROBE)
    assert_allclose(r, 0.3797133368, atol=5e-11)
    assert_allclose(r * np.log(r) + (1 - r) * np.log(1 - r), -0.66392361668, atol=5e-12)
    after_one = PROBE.lm.contexts.index((1,))
    assert_allclose(old[after_one] @ value[after_one], 0.6970370, atol=5e-8)
    # the optimum of every prefix, put together, is always right
    law = np.array([best_ratios(o, v, r) * o for o, v in zip(old, value, strict=True)])
    chance = np.prod(np.where(PROBE.lm.mask, law[PROBE.lm.context, PROBE.lm.tokens], 1.0), axis=1)
    assert_allclose(chance @ PROBE.reward, 1.0, rtol=1e-12)
    assert_allclose(PROBE.lm.probs(nearly_right(PROBE)) @ PROBE.reward, 1 - 1e-8, rtol=1e-12)
