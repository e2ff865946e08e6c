"""The language-model form, where every sequence can be listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.errors import SettingError
from polytheory.models.tabular_lm import TabularLM
from polytheory.scaled.exploration.language_class import (
    TabularMembers,
    mixture_values,
    mixture_weights,
    psdp_over_cuts,
    tree_values,
)


@pytest.fixture(scope="module")
def lm():
    return TabularLM(3, 3)


@pytest.fixture(scope="module")
def logits(lm):
    return np.random.default_rng(0).normal(size=(4, lm.C, lm.V)) * 2


def ones(text):
    return text.count(1) / 3


def test_greedy_values_are_those_of_the_sequences_written_out(lm, logits):
    members = TabularMembers(
        lm, torch.tensor(np.concatenate([logits, logits[:1]]))
    )  # two members that agree everywhere
    found = tree_values(members, [(), ()], ones, max_new=3, eos=lm.eos)
    written = []
    for table in [*logits, logits[0]]:
        text = ()
        while len(text) < 3 and lm.eos not in text:
            text = (*text, int(table[lm.contexts.index(text)].argmax()))
        written.append(text)
    np.testing.assert_allclose(found.values.numpy(), [ones(x) for x in written], rtol=0, atol=1e-15)
    assert found.scored == len(set(written))
    assert found.prefixes == tuple(len({x[: t + 1] for x in written if len(x) > t}) for t in range(3))
    assert found.prefixes[0] <= lm.V  # no more pairs than one state has actions


def test_mixture_values_are_unbiased_and_weights_bounded(lm, logits):
    """All sequences listed, each with its probability under the mixture in place of its frequency."""
    log_probs = np.stack([lm.log_probs(x) for x in logits])
    rewards = lm.reward(ones)
    weights = mixture_weights(torch.tensor(log_probs)).numpy()
    mixture = np.exp(log_probs).mean(axis=0)
    assert weights.max() <= 4 * (1 + 1e-12)
    np.testing.assert_allclose(weights @ mixture, np.ones(4), rtol=0, atol=1e-14)
    scaled = torch.tensor(rewards * mixture * lm.N)  # the mean over N sequences becomes that under the mixture
    exact = [lm.expectation(x, rewards) for x in logits]
    np.testing.assert_allclose(mixture_values(torch.tensor(log_probs), scaled).numpy(), exact, rtol=0, atol=1e-14)
    plain = np.exp(log_probs[0] - log_probs[1])  # one behaviour member alone: no bound
    assert plain.max() > 4


def test_psdp_over_cuts_chooses_as_exact_expectations_do(lm, logits):
    members = TabularMembers(lm, torch.tensor(logits))
    prefixes = [[p for p in lm.contexts if len(p) == t] for t in range(3)]
    samples = 400
    found = psdp_over_cuts(members, prefixes, ones, samples=samples, eos=lm.eos, seed=1)
    laws = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)

    def worth(text, t):  # the later tokens come from the chosen members
        if t == 3 or (text and text[-1] == lm.eos):
            return ones(text)
        law = laws[int(found.chosen[t]), lm.contexts.index(text)]
        return sum(law[v] * worth((*text, v), t + 1) for v in range(3))

    for t in range(3):
        exact = np.zeros(4)
        for p in prefixes[t]:
            own = laws[:, lm.contexts.index(p)]  # [K, V]
            exact += own @ [worth((*p, v), t + 1) for v in range(3)] / len(prefixes[t])
        # Hoeffding for scores in [0, 1], 12 entries in all, error level 1e-6
        tolerance = np.sqrt(np.log(2 * 12 / 1e-6) / (2 * samples * len(prefixes[t])))
        np.testing.assert_allclose(found.gains[t].numpy(), exact, rtol=0, atol=tolerance)
        assert exact.max() - exact[int(found.chosen[t])] <= 2 * tolerance
    again = psdp_over_cuts(members, prefixes, ones, samples=samples, eos=lm.eos, seed=1)
    assert torch.equal(found.gains, again.gains)


def test_nothing_to_do_is_refused(lm, logits):
    members = TabularMembers(lm, torch.tensor(logits))
    with pytest.raises(SettingError, match="1 prompt"):
        tree_values(members, [], ones, max_new=3, eos=lm.eos)
    with pytest.raises(SettingError, match="none may be empty"):
        psdp_over_cuts(members, [[()], []], ones, samples=1, eos=lm.eos)
