"""Reward design in the trainer: its upper gradient is the exact hypergradient on a tabular language model, and it resumes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from language_table import TableModel, TokenWorld
from numpy.testing import assert_allclose

from polytheory.access import Key
from polytheory.models.tabular_lm import TabularLM
from polytheory.proofs_check.alignment.instances import tabular_lm
from polytheory.proofs_check.alignment.oracles import bandit_preference, bandit_utility, complex_step
from polytheory.reference.alignment import language as reference
from polytheory.run import run
from polytheory.scaled.alignment import language
from polytheory.scaled.language.design import DesignFinetune, RewardDesign
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.posttraining.composition import evaluate
from polytheory.scaled.posttraining.grpo import Grpo
from polytheory.streams import row_ids

RLOO: dict[str, Any] = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "kl": "in_score"}
BANDIT = tabular_lm()  # its seven sequences are those of TabularLM(3, 2)
LM = TabularLM(3, 2)


class Linear(torch.nn.Module):
    """The bandit's reward, ``features . nu``, of the sequence that a row's tokens are."""

    def __init__(self, nu):
        super().__init__()
        self.nu = torch.nn.Parameter(torch.tensor(nu))
        self.features = torch.tensor(BANDIT.features[0])

    def forward(self, columns):
        rows = [tuple(a[m].tolist()) for a, m in zip(columns["actions"], columns["mask"], strict=True)]
        return self.features[[LM.sequences.index(y) for y in rows]] @ self.nu


def trainer(design, *, beta=BANDIT.beta, reward=None, lm=LM, **settings):
    method = Grpo(policy=CausalPolicy(TableModel(lm), lm.eos), beta=beta, **{**RLOO, **settings})
    return DesignFinetune(method, Sgd(1.0), design=design, reward_model=reward or Linear(BANDIT.nu))


def groups_of(N):
    """Every ordered group of N sequences, as one batch of columns, and the groups [G, N]."""
    groups = np.array(list(itertools.product(range(LM.N), repeat=N)))
    rows = torch.tensor(groups.ravel())
    columns = {"actions": torch.tensor(LM.tokens)[rows], "mask": torch.tensor(LM.mask)[rows]}
    return columns, groups


def upper_gradient(algorithm, N, weight, answers):
    """Ascent direction of the trainer's own loss on nu: the mean over all groups of N with these probabilities [G]."""
    columns, _ = groups_of(N)
    model = algorithm.reward_model
    scores = model(columns).view(-1, N)
    total = sum(
        w * algorithm.upper_loss(scores[i : i + 1], answers[i], response=algorithm.design.response)
        for i, w in enumerate(weight)
    )
    return -torch.autograd.grad(total, model.nu)[0].numpy()


def expected(kind, response=True, *, N=3, beta=BANDIT.beta):
    """The trainer's gradient in the mean over groups of the tilted law; the loss is linear in choices, so their means do."""
    algorithm = trainer(RewardDesign(kind, response=response, upper_group=N), beta=beta)
    _, groups = groups_of(N)
    pi = reference.tilted_law(np.log(BANDIT.pi_ref), BANDIT.features @ BANDIT.nu, BANDIT.beta)[0]
    weight = torch.tensor(pi[groups].prod(axis=1))
    if kind == "utility":
        answers = torch.tensor(BANDIT.r[0][groups])
    else:
        answers = torch.tensor(BANDIT.labels[0][groups[:, :, None], groups[:, None, :]])
    return upper_gradient(algorithm, N, weight, answers)


# 343 groups with sums of ten terms of size 1 to 10 over beta
TOLERANCE = 1e-12


def test_the_mean_upper_gradient_is_the_derivative_through_the_policy():
    """Complex steps differentiate the likelihood of choices, and the utility, through a full re-tilt of the policy."""
    assert_allclose(expected("choices"), complex_step(bandit_preference(BANDIT), BANDIT.nu), rtol=0, atol=TOLERANCE)
    assert_allclose(expected("utility"), complex_step(bandit_utility(BANDIT), BANDIT.nu), rtol=0, atol=TOLERANCE)


def test_without_response_it_is_bradley_terry():
    pi = reference.tilted_law(np.log(BANDIT.pi_ref), BANDIT.features @ BANDIT.nu, BANDIT.beta)
    given = (BANDIT.rho, pi, BANDIT.labels, BANDIT.features @ BANDIT.nu, BANDIT.features, BANDIT.beta)
    _, T1, T2 = reference.preference_gradient(*given)
    assert_allclose(expected("choices", response=False), T2, rtol=0, atol=TOLERANCE)
    assert np.abs(T1).max() > 0.01


@pytest.mark.parametrize("mutant", ["dropped", "flipped", "beta doubled", "beta forgotten"])
def test_mutants_of_the_response_are_caught(mutant, monkeypatch):
    own = language.pair_response_loss
    broken = {
        "dropped": lambda scores, ell, beta: 0 * own(scores, ell, beta),
        "flipped": lambda scores, ell, beta: -own(scores, ell, beta),
        "beta doubled": lambda scores, ell, beta: own(scores, ell, 2 * beta),
        "beta forgotten": lambda scores, ell, beta: own(scores, ell, 1.0),
    }
    monkeypatch.setattr(language, "pair_response_loss", broken[mutant])
    exact = complex_step(bandit_preference(BANDIT), BANDIT.nu)
    assert np.abs(expected("choices") - exact).max() > 1e4 * TOLERANCE


def test_beta_is_the_policy_s():
    assert np.abs(expected("utility", beta=2 * BANDIT.beta) * 2 - expected("utility")).max() < TOLERANCE


def one_step(**design):
    """One step on the tabular model; nu before and after, the columns that the teacher saw, what was reported."""
    lm, seen = TabularLM(), {}

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nu = torch.nn.Parameter(torch.tensor([0.5, -0.25], dtype=torch.float64))

        def forward(self, columns):
            seen.setdefault("first", columns)
            ones = ((columns["actions"] == 1) & columns["mask"]).sum(1)
            return torch.stack([ones, columns["mask"].sum(1)], 1).double() @ self.nu

    made = trainer(RewardDesign(**{"teacher": "choices", "upper_prompts": 2, **design}), reward=Counting(), lm=lm)
    done = run(made, TokenWorld(lm), steps=1, seed=3)
    return done, seen["first"], made


def test_a_step_descends_the_gradient_of_the_reference_on_what_it_sampled():
    """Adam's first step is the sign of the gradient times the rate: its direction and the reported norm are the reference's."""
    done, columns, made = one_step()
    g = torch.stack([((columns["actions"] == 1) & columns["mask"]).sum(1), columns["mask"].sum(1)], 1)
    g = g.double().view(2, 4, 2).numpy()
    y = columns["answers"].view(2, 4, 4).numpy()
    nu = np.array([0.5, -0.25])
    r = g @ nu
    ell = reference.label_likelihood(y, r[:, :, None] - r[:, None, :])
    slope = (reference.pair_direct(y, r, g) + reference.pair_covariance(ell + np.log(2), g, made.beta)).mean(axis=0)
    info = {name: float(done.history.column(name)[0, 0]) for name in done.history.names}
    assert_allclose(info["upper/grad_norm"], np.linalg.norm(slope), rtol=1e-12)
    off = ~np.eye(4, dtype=bool)
    assert_allclose(info["upper/loss"], -ell[:, off].mean(), rtol=1e-12)
    assert info["labels"] == 2 * 6
    rate, decay = 1e-3, 0.01
    moved = done.state.reward_model.nu.detach().numpy() - nu * (1 - rate * decay)
    # Adam divides by |g| + 1e-8, after clipping to norm 1
    assert_allclose(moved, rate * np.sign(slope), rtol=1e-6)
    assert_allclose(made.reward_model.nu.detach(), nu)  # the one that was passed is not trained


def test_the_policy_follows_the_reward_model_and_the_true_score_is_told():
    """The policy's step with a reward model that never moves is `Finetune` on these rewards."""
    lm = TabularLM()

    class Length(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nu = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, columns):
            return self.nu * columns["mask"].sum(1)

    design = RewardDesign("choices", upper_every=5, reward_step_size=1e-300, reward_decay=0.0)
    made = trainer(design, reward=Length(), lm=lm, prompts=2, beta=0.2)

    class LengthWorld(TokenWorld):
        def rollouts(self, policy, requests, key):
            traj = super().rollouts(policy, requests, key)
            return replace(traj, score=traj.mask.sum(1).double())

    got = run(made, TokenWorld(lm), steps=4, seed=1)
    plain = run(Finetune(made.method, Sgd(1.0)), LengthWorld(lm), steps=4, seed=1)
    assert_allclose(got.state.model.table, plain.state.model.table, rtol=0, atol=1e-13)
    assert np.abs(plain.state.model.table.numpy()).max() > 0.1
    true, learned = (got.history.column(name)[:, 0] for name in ("true_score", "reward"))
    assert_allclose(learned, plain.history.column("reward")[:, 0], atol=1e-13)
    assert not np.allclose(true, learned)


def test_the_deviation_is_nothing_at_the_optimum_of_the_lower_level():
    """The tilted law of a tabular model, as its logits: r - beta log(pi / ref) is then the same for every completion."""
    lm, beta = TabularLM(), 0.5
    count = lm.reward(lambda y: y.count(1))
    ref = np.zeros((lm.C, lm.V))
    start, best = TableModel(lm), TableModel(lm)
    with torch.no_grad():
        best.head.weight[:, : lm.C] = torch.tensor(lm.logits_of(lm.tilted(ref, count, beta)).T)

    class Ones(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nu = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, columns):
            return self.nu * ((columns["actions"] == 1) & columns["mask"]).sum(1)

    design = RewardDesign("choices", upper_every=5, reward_step_size=1e-300, reward_decay=0.0)
    found = {}
    for name, model in (("start", start), ("best", best)):
        method = Grpo(policy=CausalPolicy(start, lm.eos), beta=beta, prompts=4, **RLOO)
        made = DesignFinetune(method, Sgd(1e-9), design=design, reward_model=Ones())
        state = made.init(TokenWorld(lm), 0)
        state.model.load_state_dict(model.state_dict())
        _, info = made.step(state, TokenWorld(lm))
        found[name] = float(info["lower/deviation"])
    assert found["best"] < 1e-12
    assert found["start"] > 0.1


def test_answers_are_bernoulli_draws_read_from_both_sides():
    made = trainer(RewardDesign("choices", teacher_scale=2.0, upper_group=3, upper_prompts=4000))
    u = torch.tensor([0.0, 0.5, 0.5]).repeat(4000)
    y = made.answers(u, Key(0, "x", 0), row_ids(0, np.arange(12000))).view(-1, 3, 3)
    assert_allclose(y + y.mT, torch.ones_like(y))
    assert set(y[:, 0, 1].tolist()) == {0.0, 1.0}
    assert bool((y[:, 1, 2] == 0.5).all())  # a teacher without a preference says so
    p = 1 / (1 + np.exp(1.0))
    # four standard errors of 8000 independent draws
    assert abs(float(y[:, 0, 1:].mean()) - p) < 4 * (p * (1 - p) / 8000) ** 0.5
    again = made.answers(u, Key(0, "x", 1), row_ids(0, np.arange(12000))).view(-1, 3, 3)
    assert not torch.equal(y, again)


def test_agreement_counts_pairs_that_differ():
    made = trainer(RewardDesign("choices"))
    u, answers = torch.tensor([0.0, 1.0, 1.0]), torch.full((3, 3), 0.5)
    assert made.before(torch.tensor([[0.0, 2.0, -1.0]]), answers, u)[1] == 0.5
    assert made.before(torch.tensor([[0.0, 0.0, 3.0]]), answers, u)[1] == 0.75
    loss, agreement = made.before(torch.zeros(1, 3), answers, torch.ones(3))
    assert agreement is None
    assert loss == pytest.approx(np.log(2))


def test_kl_in_score_is_the_gradient_of_the_whole_kl():
    """On every sequence of the table: RLOO's lower level climbs E[r] - beta KL, by differences of the exact objective."""
    lm, beta = LM, 0.3
    model = TableModel(lm)
    table = np.random.default_rng(1).normal(size=(lm.C, lm.V))
    with torch.no_grad():
        model.head.weight[:, : lm.C] = torch.tensor(table.T)
    r = torch.tensor(BANDIT.r[0])
    method = Grpo(policy=CausalPolicy(model, lm.eos), group_size=2, beta=beta, **RLOO)
    ref = np.zeros_like(table)
    pairs = np.array(list(itertools.product(range(lm.N), repeat=2)))
    log_p, log_ref = (torch.tensor(lm.token_log_probs(x)) for x in (table, ref))
    mask, probs = torch.tensor(lm.mask), lm.probs(table)
    theta = torch.tensor(table, requires_grad=True)
    now = torch.where(
        mask, torch.log_softmax(theta, -1)[torch.tensor(lm.context), torch.tensor(lm.tokens)], torch.zeros(())
    )
    total = 0.0
    for pair in pairs:
        columns = {
            "mask": mask[pair], "score": r[pair], "group": torch.zeros(2, dtype=torch.int64),
            "log_probs_old": log_p[pair], "log_probs_ref": log_ref[pair], "log_probs_sampler": log_p[pair],
        }  # fmt: skip
        columns, _ = method.prepare(columns, {})
        loss = evaluate({**columns, "log_probs": now[pair]}, method.recipe(), normalisation="seq_sum")
        total = total - float(probs[pair].prod()) * loss
    found = torch.autograd.grad(total, theta)[0].numpy()

    def value(x):
        return float(lm.probs(x) @ BANDIT.r[0]) - beta * lm.kl(x, ref)

    h = 1e-5
    exact = np.zeros_like(table)
    for i in np.ndindex(table.shape):
        e = np.zeros_like(table)
        e[i] = h
        exact[i] = (value(table + e) - value(table - e)) / (2 * h)
    # differences at 1e-5: truncation 1e-10 times third derivatives below 10, rounding 1e-11
    assert_allclose(found, exact, atol=2e-9)
