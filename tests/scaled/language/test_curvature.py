"""HARPG on a causal language model: the tabular composition's steps, and two Hessian-vector products against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from language_table import TableModel, TokenWorld

from polytheory.access import Online
from polytheory.access.language import Prompts, WeightedReward
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.registry import make
from polytheory.models.tabular_lm import TabularLM
from polytheory.models.text.tasks import task
from polytheory.run import run
from polytheory.scaled.language import curvature
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW, Harpg, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining import updates
from polytheory.scaled.posttraining.grpo import Grpo
from polytheory.scaled.posttraining.softmax import TabularSoftmax

SCORE = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0, "group_size": 4}
MODEL, LM = make("token-mdp", reward="ones-minus-half-length"), TabularLM()


def table(follows, **more):
    world = TokenWorld(LM)
    world.inner = Online(MODEL).replicate(1)
    world.meter = world.inner.meter
    policy = CausalPolicy(TableModel(LM), LM.eos)
    return run(Finetune(Grpo(policy=policy, **SCORE), follows, **more), world, steps=6, seed=4)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("hvp", "tolerance"), [("exact", 1e-11), ("difference", 1e-5)])
def test_a_table_takes_the_steps_of_the_composition(normalised, hvp, tolerance):
    """Six steps of float64: exact products to some roundings; differences to about (3 eps)^(2/3) / 6 = 8e-6 of a product each,
    and products are less than the gradients that they are added to."""
    settings = {"gamma0": 0.5, "normalised": normalised}
    tabular = Grpo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), update=updates.Harpg(**settings), **SCORE)
    end = run(tabular, Online(MODEL).replicate(1), steps=6, seed=4)
    got = table(Harpg(**settings, hvp=hvp))
    expected = end.state.theta[0].view(MODEL.S, MODEL.A)[: LM.C]
    np.testing.assert_allclose(got.state.model.table[: LM.C], expected, atol=tolerance)
    assert got.meter.total("episodes") == end.meter.total("episodes") == 4 * 11
    exponent = 1.0 if normalised else 0.5
    rates = [0.5 * (2 / (t + 2)) ** exponent for t in range(6)]
    assert got.history.column("learning_rate")[:, 0] == pytest.approx(rates)


@pytest.fixture(scope="module")
def words():
    tokenizer = character_tokenizer()
    rows = task("copy").rows(64)
    reward = [WeightedReward("digits", lambda completions, answer: [float(len(c) % 3 == 0) for c in completions])]
    model = tiny_model(len(tokenizer), hidden=32, heads=1, feed_forward=32, layers=1)
    with torch.no_grad():  # laws that are not nearly uniform
        model.get_output_embeddings().weight.mul_(10)
    return lambda: Prompts(rows, tokenizer, reward, max_length=5), CausalPolicy(model, 1)


def trainer(policy, follows, **more):
    return Finetune(Grpo(policy=policy, prompts=4, **SCORE), follows, **more)


def second(words, **more):
    """The change of the gradient that the second batch gives, at the second step of a run."""
    access, policy = words
    it, world = trainer(policy, Harpg(gamma0=0.3, **more)), access()
    state, _ = it.step(it.init(world, 3), world)
    curvature.second_batch(it, state, world)
    return state, world, it


def test_two_routes_to_the_same_product(words):
    """Going back twice against differences of reweighted gradients."""
    found = {hvp: second(words, hvp=hvp)[0].optimizer.v for hvp in ("exact", "difference")}
    gap = (found["exact"] - found["difference"]).norm() / found["exact"].norm()
    assert found["exact"].norm() > 0
    # (3 eps)^(2/3) = 5e-5 for a gradient as large as its change; this one changes by a third of itself or more
    assert gap < 1e-3, gap


def test_micro_batches_do_not_change_the_product(words):
    for hvp in ("exact", "difference"):
        whole, world, it = second(words, hvp=hvp)
        split = Finetune(it.method, it.optimiser, micro_batch=4)
        before = whole.optimizer.v
        world = words[0]()
        state, _ = it.step(it.init(world, 3), world)
        curvature.second_batch(split, state, world)
        # sums of float32 in another order; differences divide them by the spacing
        assert (state.optimizer.v - before).norm() < {"exact": 1e-5, "difference": 2e-3}[hvp] * before.norm()


def test_weights_and_gradients_are_left_alone(words):
    access, policy = words
    it, world = trainer(policy, Harpg(gamma0=0.3, hvp="difference")), access()
    state, _ = it.step(it.init(world, 3), world)
    params = list(state.model.parameters())
    for i, p in enumerate(params):
        p.grad = torch.full_like(p, float(i))
    before = [p.detach().clone() for p in params]
    curvature.second_batch(it, state, world)
    assert all(
        torch.equal(p, b) and bool((p.grad == i).all()) for i, (p, b) in enumerate(zip(params, before, strict=True))
    )


@pytest.mark.parametrize("hvp", ["exact", "difference"])
def test_resumed_equals_uninterrupted_bit_for_bit(words, hvp, tmp_path):
    access, policy = words
    it = trainer(policy, Harpg(gamma0=0.3, normalised=True, hvp=hvp))
    whole = run(it, access(), steps=4, seed=1)
    run(it, access(), steps=2, seed=1, checkpoint=tmp_path / "run")
    again = run(it, access(), steps=4, seed=1, checkpoint=tmp_path / "run")
    for a, b in zip(whole.state.model.parameters(), again.state.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.state.optimizer.d, again.state.optimizer.d)
    assert again.meter.total("episodes") == 7 * 16


def test_what_does_not_fit_is_refused(words):
    _, policy = words
    with pytest.raises(UnknownNameError, match="hvp"):
        Harpg(hvp="forward")
    with pytest.raises(SettingError, match="gamma0"):
        Harpg(gamma0=0.0)
    with pytest.raises(SettingError, match="surrogate='reinforce'"):
        Finetune(Grpo(policy=policy), Harpg())
    with pytest.raises(SettingError, match="every completion once"):
        trainer(policy, Harpg(), mini_batches=2)
    assert isinstance(trainer(policy, AdamW()).optimiser, AdamW)
    assert isinstance(trainer(policy, Sgd()).optimiser, Sgd)


def test_attention_without_a_second_derivative_is_refused(words):
    access, policy = words
    model = tiny_model(26, hidden=32, heads=1, feed_forward=32, layers=1)
    model.set_attn_implementation("sdpa")
    with pytest.raises(SettingError, match="'sdpa' attention"):
        run(trainer(policy.with_model(model), Harpg()), access(), steps=2)
    run(trainer(policy.with_model(model), Harpg(hvp="difference")), access(), steps=2)


def test_half_precision_has_no_differences(words):
    access, policy = words
    model = tiny_model(26, hidden=32, heads=1, feed_forward=32, layers=1).to(torch.bfloat16)
    it = trainer(policy.with_model(model), Harpg(hvp="difference"), mismatch_tolerance=None)
    with pytest.raises(SettingError, match="bfloat16"):
        run(it, access(), steps=2)
