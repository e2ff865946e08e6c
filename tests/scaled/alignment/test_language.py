"""Losses for reward networks over completions: exact on the tabular language model, for networks too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from polytheory.errors import SettingError
from polytheory.models.tabular_lm import TabularLM
from polytheory.proofs_check.alignment.instances import two_prompts
from polytheory.proofs_check.alignment.oracles import bandit_preference, complex_step
from polytheory.reference.alignment import language as reference
from polytheory.scaled.alignment import language

LM = TabularLM(3, 2)
BETA = 0.4


def law_of(r, ref):
    return LM.tilted(ref, r, BETA)


def test_reward_network_on_completions_follows_the_full_derivative():
    """A two-layer reward on all sequences; groups enumerated by their law; finite differences through a full re-tilt."""
    ref = np.random.default_rng(0).normal(size=(LM.C, LM.V))
    true = torch.tensor(LM.reward(lambda y: y.count(1) - 0.5 * len(y)))
    inputs = torch.tensor(np.random.default_rng(1).normal(size=(LM.N, 3)))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    weights = torch.cat([p.detach().reshape(-1) for p in network.parameters()])

    def rewards(flat):
        pieces = flat.split([p.numel() for p in network.parameters()])
        named = {k: x.view_as(p) for (k, p), x in zip(network.named_parameters(), pieces, strict=True)}
        return torch.func.functional_call(network, named, (inputs,))[:, 0]

    def value(flat):
        return float(law_of(rewards(flat).detach().numpy(), ref) @ true.numpy())

    eye = torch.eye(len(weights), dtype=torch.float64)
    exact = [(value(weights + 1e-5 * e) - value(weights - 1e-5 * e)) / 2e-5 for e in eye]
    pi = torch.tensor(law_of(rewards(weights).detach().numpy(), ref))
    i, j = (x.flatten() for x in torch.meshgrid(torch.arange(LM.N), torch.arange(LM.N), indexing="ij"))
    groups = torch.stack([i, j], 1)
    flat = weights.clone().requires_grad_()
    loss = (pi[i] * pi[j] * language.utility_loss(rewards(flat)[groups], true[groups], BETA)).sum()
    # central differences at 1e-5: truncation 1e-10 times third derivatives, rounding 1e-11
    assert_allclose(-torch.autograd.grad(loss, flat)[0], exact, atol=1e-8)


def test_policy_with_shared_parameters():
    """Coefficients by forward mode alone equal those of the score matrix."""
    logits = np.random.default_rng(2).normal(size=(LM.C, LM.V))
    u = torch.tensor(LM.reward(lambda y: float(y[0] == 1)))
    weights = torch.tensor(LM.probs(logits))
    context, tokens, mask = (torch.tensor(x) for x in (LM.context, LM.tokens, LM.mask))

    def log_probs(flat):
        rows = torch.log_softmax(flat.view(LM.C, LM.V), dim=-1)
        return torch.where(mask, rows[context, tokens], torch.zeros(())).sum(1)

    flat = torch.tensor(logits.ravel())
    found = language.response_coefficients(log_probs, flat, weights, u, damping=1e-2, steps=40)
    scores = LM.scores(logits).reshape(LM.N, -1)
    F = scores.T @ (LM.probs(logits)[:, None] * scores) + 1e-2 * np.eye(scores.shape[1])
    exact = scores @ np.linalg.solve(F, scores.T @ (LM.probs(logits) * u.numpy()))
    assert_allclose(found, exact, atol=1e-10)


def test_worked_bandit():
    bandit = two_prompts()
    pi = reference.tilted_law(np.log(bandit.pi_ref), bandit.features @ bandit.nu, bandit.beta)
    assert_allclose(pi[0], [0.7426152668, 0.1098760021, 0.1475087311], atol=5e-11)
    assert_allclose(pi[1], [0.3065097750, 0.0771112857, 0.6163789394], atol=5e-11)
    given = (bandit.rho, pi, bandit.labels, bandit.features @ bandit.nu, bandit.features, bandit.beta)
    value, T1, T2 = reference.preference_gradient(*given)
    assert_allclose(value, -0.7088455311, atol=5e-11)
    assert_allclose(T1, [0.0199010951, -0.0350515099], atol=5e-11)
    assert_allclose(T2, [-0.0540336114, 0.0144688126], atol=5e-11)
    assert_allclose(T1 + T2, complex_step(bandit_preference(bandit), bandit.nu), atol=1e-14)
    utility = reference.utility_gradient(bandit.rho, pi, bandit.r, bandit.features, bandit.beta)
    assert_allclose(utility, [-0.1054222178, -0.0644136545], atol=5e-11)


def test_sampled_groups_match_the_covariance():
    """20000 groups of four: each component within four standard errors (error level 1.3e-4, fixed seed); 1 / N would shrink."""
    bandit, rng = two_prompts(), np.random.default_rng(0)
    pi = reference.tilted_law(np.log(bandit.pi_ref), bandit.features @ bandit.nu, bandit.beta)
    x = rng.integers(2, size=20000)
    draws = (rng.uniform(size=(20000, 4))[:, :, None] > np.cumsum(pi, axis=1)[x][:, None, :-1]).sum(axis=2)
    u, g = bandit.r[x[:, None], draws], bandit.features[x[:, None], draws]
    found = language.group_covariance(torch.tensor(u), torch.tensor(g), bandit.beta).numpy()
    exact = reference.utility_gradient(bandit.rho, pi, bandit.r, bandit.features, bandit.beta)
    error = found.std(axis=0, ddof=1) / 20000**0.5
    assert (np.abs(found.mean(axis=0) - exact) < 4 * error).all()
    assert (np.abs(0.75 * found.mean(axis=0) - exact) > 4 * error).all()


def test_preference_loss_is_both_terms():
    rng = np.random.default_rng(5)
    scores = torch.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    upper = np.triu(rng.uniform(size=(3, 4, 4)) < 0.5, 1).astype(float)
    p = torch.tensor(upper + np.tril(1 - np.swapaxes(upper, 1, 2), -1))
    both, plain = (
        torch.autograd.grad(language.preference_loss(scores, p, 0.5, response=x), scores)[0] for x in (True, False)
    )
    assert not torch.allclose(both, plain)
    alone = torch.autograd.grad(language.bradley_terry_loss(scores, p).mean(), scores)[0]
    assert_allclose(plain, alone, atol=1e-15)
    # a shift of all scores of a prompt changes nothing
    assert_allclose(both.sum(1), 0, atol=1e-14)


@pytest.mark.parametrize("room", [reference, language])
def test_small_groups_are_refused(room):
    one, two = np.ones((1, 1)), np.ones((1, 2, 2))
    wrap = torch.tensor if room is language else np.array
    with pytest.raises(SettingError, match="at least 2"):
        room.group_covariance(wrap(one), wrap(np.ones((1, 1, 2))), 0.5)
    with pytest.raises(SettingError, match="at least 3"):
        room.pair_covariance(wrap(two), wrap(np.ones((1, 2, 2))), 0.5)
