"""Samplers that need no engine: transformers' ``generate`` against our own, weights and when they changed, settings."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import transformers

from polytheory.errors import MissingExtraError, SettingError, UnknownNameError
from polytheory.run import run
from polytheory.scaled.language.adapters import Lora, add_adapters
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import NPgIgt
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.samplers.base import Cached, Sampling
from polytheory.scaled.language.samplers.generate import Generate
from polytheory.scaled.language.samplers.rows import completions, request, seeds
from polytheory.scaled.language.samplers.weights import fingerprint, named_weights
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining.grpo import Grpo

# float32, whatever the model's type (transformers' eager softmax is): two layers are some ten sums of at most 64 terms, each
# rounded by 2^-24 of numbers up to 4, which add up as a root; temperatures go down to 0.6
CLOSE = 10 * 64**0.5 * 2**-24 * 4 / 0.6
KEY = (3, "test/completions", 7)


@pytest.fixture(scope="module")
def model():
    made = tiny_model(len(character_tokenizer()), hidden=32, heads=2, feed_forward=64, seed=3).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(3.0)  # a law far from uniform
    return made


@pytest.fixture(scope="module")
def prompts():
    enc = character_tokenizer()(["Q12=", "Q987654=", "Q="], return_tensors="pt", padding=True)
    return enc.input_ids, enc.attention_mask.bool()


def ask(sampler, model, prompts, *, temperature=0.8, eos=(1, 5), n=12, key=KEY):
    return sampler.complete(model, *prompts, torch.arange(n), key, 6, eos=eos, temperature=temperature)


def assert_same(a, b):
    assert torch.equal(a.actions, b.actions)
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.finished, b.finished)
    torch.testing.assert_close(a.log_probs, b.log_probs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("eos", [1, (1, 5, 9)])
def test_generate_gives_the_completions_of_the_cached_sampler(model, prompts, temperature, eos):
    found = ask(Generate(), model, prompts, temperature=temperature, eos=eos)
    assert_same(found, ask(Cached(), model, prompts, temperature=temperature, eos=eos))
    assert not found.actions[~found.mask].any()
    assert not found.log_probs[~found.mask].any()


def test_a_hub_model_s_generation_config_does_not_shape_the_law(model, prompts):
    other = copy.deepcopy(model)
    # as models of the hub bring it; every one of these changes the law, the last the end of a text
    given = {"do_sample": True, "top_k": 1, "top_p": 0.2, "repetition_penalty": 3.0, "min_new_tokens": 5,
             "temperature": 0.1, "no_repeat_ngram_size": 1, "eos_token_id": [1, 3, 4, 6, 7]}  # fmt: skip
    for name, value in given.items():
        setattr(other.generation_config, name, value)
    other.train()
    kept = other.generation_config
    assert_same(ask(Generate(), other, prompts), ask(Cached(), model, prompts))
    assert other.generation_config is kept
    assert other.training
    # the trap itself: with the model's config in force, generate's scores are another law
    other.eval()
    ids, mask = prompts
    plain = other.generate(ids, attention_mask=mask.long(), max_new_tokens=1, return_dict_in_generate=True,
                           output_scores=True, pad_token_id=0)  # fmt: skip
    assert int(plain.scores[0].isfinite().sum(1).max()) == 1


def test_rows_keep_their_numbers_in_other_batches(model, prompts):
    ids, mask = prompts
    whole = ask(Generate(), model, prompts, n=3)
    for i in range(3):
        own = Generate().complete(
            model, ids[i : i + 1], mask[i : i + 1], torch.tensor([i]), KEY, 6, eos=(1, 5), temperature=0.8
        )
        k = own.mask.shape[1]
        assert torch.equal(own.actions, whole.actions[i : i + 1, :k])
    assert not torch.equal(ask(Generate(), model, prompts, n=3, key=(3, "test/completions", 8)).actions, whole.actions)


def test_a_training_is_the_same_with_generate(words_world):
    world, policy = words_world
    ends = []
    for sampler in (Cached(), Generate()):
        method = Grpo(policy=CausalPolicy(policy.model, 1, sampler=sampler), prompts=4, group_size=4)
        end = run(Finetune(method, NPgIgt(gamma0=0.05)), world(), steps=3, seed=1)
        ends.append(torch.cat([p.detach().ravel() for p in end.state.model.parameters()]))
    start = torch.cat([p.detach().ravel() for p in policy.model.parameters()])
    assert (ends[0] - start).abs().max() > 1e-3
    # the same completions, hence the same gradients: the log-probs of the sampler are only gated
    assert torch.equal(ends[0], ends[1])


@pytest.fixture
def words_world():
    from polytheory.access.language import Prompts, WeightedReward
    from polytheory.models.text.tasks import task

    tokenizer = character_tokenizer()
    reward = [WeightedReward("digits", lambda completions: [float(len(c) == 3) for c in completions])]
    policy = CausalPolicy(tiny_model(len(tokenizer), hidden=32, heads=1, feed_forward=32, layers=1), 1)
    return lambda: Prompts(task("copy").rows(64), tokenizer, reward, max_length=5), policy


def test_every_way_to_write_weights_changes_the_fingerprint(model):
    before = fingerprint(named_weights(model))
    assert fingerprint(named_weights(copy.deepcopy(model))) == before  # other tensors, the same numbers
    weight = model.model.layers[0].mlp.up_proj.weight
    ways = {
        "through data, one number by one rounding": lambda m, w: w.data.view(-1)[:1].copy_(
            torch.nextafter(w.data.view(-1)[:1], torch.tensor(9.0))
        ),
        "two rows in each other's place": lambda m, w: w.data.copy_(w.data[[1, 0, *range(2, len(w))]].clone()),
        "two columns in each other's place": lambda m, w: w.data.copy_(
            w.data[:, [1, 0, *range(2, w.shape[1])]].clone()
        ),
        "an optimiser": lambda m, w: torch.optim.SGD([_with_gradient(w)], lr=0.1).step(),
        "another tensor": lambda m, w: setattr(w, "data", w.data + 1e-6),
        "a checkpoint": lambda m, w: m.load_state_dict({k: x * 2 for k, x in m.state_dict().items()}),
    }
    for name, change in ways.items():
        other = copy.deepcopy(model)
        with torch.no_grad():
            change(other, other.model.layers[0].mlp.up_proj.weight)
        assert fingerprint(named_weights(other)) != before, name
    assert weight is model.model.layers[0].mlp.up_proj.weight
    assert fingerprint(named_weights(model)) == before


def _with_gradient(weight):
    weight.grad = torch.ones_like(weight)
    return weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_fingerprint_fits_every_dtype(dtype):
    x = torch.zeros(3, 2, dtype=dtype)
    y = x.clone()
    y[1, 1] = 1e-3
    assert fingerprint({"a": x, "b": torch.tensor(1), "c": torch.ones(2, dtype=dtype)}) == fingerprint(
        {"a": x.clone(), "b": torch.tensor(1), "c": torch.ones(2, dtype=dtype)}
    )
    assert fingerprint({"a": x}) != fingerprint({"a": y})


def test_a_tied_output_layer_is_among_the_weights():
    config = transformers.GPT2Config(vocab_size=26, n_embd=32, n_layer=1, n_head=1, n_positions=32)
    model = transformers.GPT2LMHeadModel(config)
    assert "lm_head.weight" not in dict(model.named_parameters())  # the trap
    found = named_weights(model)
    assert torch.equal(found["lm_head.weight"], found["transformer.wte.weight"])


def test_adapters_are_merged_and_the_model_in_training_is_left_alone(model, prompts):
    adapted = add_adapters(copy.deepcopy(model), Lora(lora_rank=2, lora_targets=("q_proj", "up_proj")), seed=0)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(0))
    before = {k: x.clone() for k, x in adapted.named_parameters()}
    found = named_weights(adapted)
    plain = copy.deepcopy(model)
    plain.load_state_dict(found)
    ids = prompts[0][:1, -3:]
    torch.testing.assert_close(plain(ids).logits, adapted(ids).logits, rtol=0, atol=CLOSE)
    assert (plain(ids).logits - model(ids).logits).abs().max() > 0.01
    assert all(torch.equal(x, before[k]) for k, x in adapted.named_parameters())


def test_requests_write_out_all_that_shapes_the_law():
    found = request(4, 6, (1, 5), 0.7)
    assert found["stop_token_ids"] == [1, 5]
    assert (found["top_k"], found["top_p"], found["min_p"], found["repetition_penalty"]) == (0, 1.0, 0.0, 1.0)
    assert found["ignore_eos"]
    own = seeds(KEY, torch.arange(5))
    assert len(set(own)) == 5
    assert own[2:3] == seeds(KEY, torch.tensor([2]))
    assert set(own).isdisjoint(seeds((3, "test/completions", 8), torch.arange(5)))
    assert set(own).isdisjoint(seeds((3, "evaluation", 7), torch.arange(5)))


def test_answers_become_padded_tensors():
    found = completions([[4, 1], [7, 8, 9]], [[-0.5, -0.1], [-1.0, -2.0, -3.0]], 1, "cpu")
    assert found.actions.tolist() == [[4, 1, 0], [7, 8, 9]]
    assert found.mask.tolist() == [[True, True, False], [True, True, True]]
    assert found.log_probs.tolist() == [[-0.5, -0.1, 0.0], [-1.0, -2.0, -3.0]]
    assert found.finished.tolist() == [True, False]


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"sampler": "vlm"}, UnknownNameError, "vllm"),
        ({"sampler_memory": 0.0}, SettingError, "sampler_memory = 0.0"),
        ({"sampler_rows": 0}, SettingError, "sampler_rows = 0"),
        ({"sampler_length": -1}, SettingError, "sampler_length = -1"),
        ({"sampler_url": "localhost"}, SettingError, "http://"),
    ],
)
def test_bad_settings_are_one_line(settings, error, text):
    with pytest.raises(error, match=text):
        Sampling(**settings)


def test_a_missing_engine_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # also where vLLM happens to be installed
    with pytest.raises(MissingExtraError, match=r"polytheory\[vllm\]"):
        Sampling(sampler="vllm").make()


def test_uneven_rows_are_refused(model, prompts):
    with pytest.raises(SettingError, match="4 rows for 3 prompts"):
        ask(Generate(), model, prompts, n=4)
    with pytest.raises(SettingError, match="temperature"):
        ask(Generate(), model, prompts, temperature=-1.0)
