"""Memory of a training: checkpointed layers, one model where one is enough, and bfloat16 with float32 masters."""

from __future__ import annotations

import gc

import pytest
import torch
from language_table import TableModel, TokenWorld
from ranks_cases import world
from transformers import PreTrainedModel

from polytheory.errors import MismatchError, SettingError
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train
from polytheory.models.tabular_lm import TabularLM
from polytheory.run import run
from polytheory.scaled.language import metrics
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW, NPgIgt, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining.grpo import Grpo


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.parameters()])


def saved_bytes(method, steps=1):
    """Bytes that the backward passes keep at most, and the weights at the end."""
    sizes: dict[int, int] = {}

    def keep(x):
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        end = run(method, world(), steps=steps, seed=2, progress=False)
    return sum(sizes.values()), weights(end.state.model)


def test_checkpointed_layers_give_the_same_gradient_and_keep_less():
    deep = tiny_model(len(character_tokenizer()), hidden=16, feed_forward=64, layers=6)

    def method(**settings):
        return Finetune(Grpo(policy=CausalPolicy(deep, 1), prompts=4, group_size=4, beta=0.0), Sgd(0.5), **settings)

    plain, expected = saved_bytes(method())
    small, found = saved_bytes(method(gradient_checkpointing=True))
    assert torch.equal(found, expected)  # the same operations again
    assert not torch.equal(found, weights(deep))
    assert small < plain / 2


def test_a_checkpointed_run_may_go_on_without(tmp_path):
    policy = CausalPolicy(tiny_model(len(character_tokenizer()), hidden=16, feed_forward=16, layers=1), 1)
    method = Grpo(policy=policy, prompts=2, group_size=4, beta=0.0)
    run(Finetune(method, Sgd(0.5), gradient_checkpointing=True), world(), steps=1, checkpoint=tmp_path, progress=False)
    end = run(Finetune(method, Sgd(0.5), micro_batch=4), world(), steps=2, checkpoint=tmp_path, progress=False)
    assert end.steps == 2


@pytest.mark.parametrize(("beta", "models"), [(0.0, 1), (0.1, 2)])
def test_a_training_holds_a_second_model_only_where_a_part_reads_it(beta, models):
    def alive():
        gc.collect()
        return {id(x) for x in gc.get_objects() if issubclass(type(x), PreTrainedModel) and hasattr(x, "lm_head")}

    before, most = alive(), []
    words = {"steps": 2, "sft_steps": 2, "sft_batch": 4, "rows": 32, "held_out": 8, "prompts": 2, "group_size": 2}
    train(
        read("grpo", {**words, "beta": beta}), callbacks=[lambda *_: most.append(len(alive() - before))], progress=False
    )
    assert most == [models] * 2


def test_the_reference_is_not_given_up_where_it_is_read():
    policy = CausalPolicy(tiny_model(len(character_tokenizer()), hidden=16, heads=1, layers=1), 1)
    with pytest.raises(SettingError, match="reads the starting weights"):
        Finetune(Grpo(policy=policy, beta=0.1), train_copy=False)
    method = Finetune(Grpo(policy=policy, beta=0.0), Sgd(0.1), train_copy=False)
    assert method.init(world(), 0).model is policy.model


class NarrowTable(TableModel):
    """The same table in bfloat16, from logits that bfloat16 holds exactly."""

    dtype = torch.bfloat16

    def __init__(self, lm, start):
        super().__init__(lm)
        self.head.weight.data = start.clone()

    def base_model(self, **inputs):
        out = super().base_model(**inputs)
        out.last_hidden_state = out.last_hidden_state.to(self.head.weight.dtype)
        return out

    @property
    def table(self):
        return super().table.double()


def tables():
    lm = TabularLM()
    start = torch.randn(lm.V, lm.C + 1, generator=torch.Generator().manual_seed(0)).bfloat16()
    return lm, NarrowTable(lm, start), NarrowTable(lm, start.double())


def test_a_bfloat16_gradient_is_within_its_rounding():
    """Logits are exact (one-hot times weight). A tile rounds each token's slope and their sum to bfloat16, and the head's
    gradient is rounded once more: 2^-8 each, of no more than sum_t |w_t| <= max |A|, which is (G - 1) / sqrt(G)."""
    lm, narrow, exact = tables()
    G = 8
    moved = []
    for model in (narrow, exact):
        settings = {"prompts": 2, "group_size": G, "beta": 0.0, "normalisation": "token_mean"}
        method = Finetune(Grpo(policy=CausalPolicy(model, lm.eos), **settings), Sgd(1.0))
        state = run(method, TokenWorld(lm), steps=1, seed=4, progress=False).state
        end = state.optimizer.params[0] if model is narrow else state.model.head.weight
        moved.append(end.detach().double() - model.head.weight.detach().double())
    bound = 3 * 2**-8 * (G - 1) / G**0.5 * (1 + 2**-7) + 1e-6  # the sampler's and float32's own rounding
    assert moved[1].abs().max() > 3 * bound
    assert (moved[0] - moved[1]).abs().max() <= bound


def test_small_steps_on_bfloat16_weights_add_up_in_the_masters():
    lm, narrow, _ = tables()
    rate, steps = 1e-4, 3
    method = Finetune(Grpo(policy=CausalPolicy(narrow, lm.eos), prompts=4, beta=0.0), AdamW(rate, max_norm=None))
    end = run(method, TokenWorld(lm), steps=steps, seed=4, progress=False).state
    master, start = end.optimizer.params[0].detach(), narrow.head.weight.detach().float()
    moved = (master - start).abs()
    # AdamW moves by the rate in its first steps wherever gradients keep their sign; float32 rounds a weight below 4 by 2^-23
    assert float(moved.max()) == pytest.approx(steps * rate, rel=0.05)
    large = start.abs() > 0.5
    assert bool((moved[large] > 0).any())
    # a weight above 1/2 has neighbours 2^-8 apart: three such steps never reach half of it, and without masters were lost
    assert torch.equal(end.model.head.weight.detach()[large], narrow.head.weight.detach()[large])
    rounded = (end.model.head.weight.detach().float() - master).abs()
    assert bool((rounded <= 2**-8 * master.abs()).all())


def test_a_bfloat16_run_is_resumed_bit_for_bit(tmp_path):
    model = tiny_model(len(character_tokenizer()), hidden=16, feed_forward=16, layers=1).bfloat16()
    method = Finetune(Grpo(policy=CausalPolicy(model, 1), prompts=2, beta=0.0), AdamW(1e-3))
    whole = run(method, world(), steps=3, progress=False).state
    run(method, world(), steps=1, checkpoint=tmp_path, progress=False)
    again = run(method, world(), steps=3, checkpoint=tmp_path, progress=False).state
    assert all(torch.equal(a, b) for a, b in zip(whole.optimizer.params, again.optimizer.params, strict=True))
    assert torch.equal(weights(whole.model), weights(again.model))
    assert not torch.equal(weights(whole.model), weights(model))
    with pytest.raises(SettingError, match="float32 masters"):
        Finetune(Grpo(policy=CausalPolicy(model, 1), beta=0.0), NPgIgt()).init(world(), 0)


def test_the_gate_is_wider_in_bfloat16():
    found = {"mismatch/max": 0.4}
    metrics.gate(found, 1e-4, torch.bfloat16)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(MismatchError, match=r"allowed are 0\.0001"):
            metrics.gate(found, 1e-4, dtype)
    with pytest.raises(MismatchError, match=r"allowed are 0\.5"):
        metrics.gate({"mismatch/max": 0.6}, 1e-4, torch.bfloat16)
