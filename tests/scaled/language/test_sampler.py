"""The cached sampler against a forward pass per token and row, without cache, padding or batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.errors import SettingError
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.sampler import sample
from polytheory.scaled.language.tiny import ALPHABET, EOS, PAD, character_tokenizer, tiny_model

# float32 logits of a two-layer model: batched and single products differ by some 1e-6; probabilities are compared to 1e-4
CLOSE = 1e-4


@pytest.fixture(scope="module")
def model():
    # weights large enough that the law is far from uniform
    made = tiny_model(len(ALPHABET) + 2, hidden=32, heads=2, feed_forward=64, seed=3).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(3.0)
    return made


@pytest.fixture(scope="module")
def prompts():
    enc = character_tokenizer()(["Q12=", "Q987654=", "Q="], return_tensors="pt", padding=True)
    return enc.input_ids, enc.attention_mask.bool()


def alone(model, prompt, u, eos, temperature):
    """One row, token by token, a full forward pass each."""
    ids, tokens, found = prompt.tolist(), [], []
    for x in u.tolist():
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double().numpy() / temperature
        law = np.exp(logits - logits.max())
        law /= law.sum()
        token = int(np.searchsorted(np.cumsum(law), x, side="right"))
        ids.append(token)
        tokens.append(token)
        found.append(np.log(law[token]))
        if token == eos:
            break
    return tokens, found


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_completions_are_those_of_the_model_alone(model, prompts, temperature):
    u = torch.from_numpy(np.random.default_rng(0).random((12, 6)))
    done = sample(model, *prompts, u, eos=1, temperature=temperature)
    ended = 0
    for i in range(12):
        own = prompts[0][i // 4][prompts[1][i // 4]]
        tokens, found = alone(model, own, u[i], 1, temperature)
        k = len(tokens)
        assert done.actions[i, :k].tolist() == tokens
        assert done.mask[i].tolist() == [t < k for t in range(done.mask.shape[1])]
        np.testing.assert_allclose(done.log_probs[i, :k], found, atol=CLOSE)
        assert not done.actions[i, k:].any()
        assert not done.log_probs[i, k:].any()
        assert bool(done.finished[i]) == (tokens[-1] == 1)
        ended += tokens[-1] == 1
    assert 0 < ended < 12  # both ways to end occur


def test_a_row_does_not_depend_on_its_batch(model, prompts):
    u = torch.from_numpy(np.random.default_rng(1).random((3, 6)))
    together = sample(model, *prompts, u, eos=1)
    for i in range(3):
        own = sample(model, prompts[0][i : i + 1], prompts[1][i : i + 1], u[i : i + 1], eos=1)
        k = own.mask.shape[1]
        assert torch.equal(own.actions, together.actions[i : i + 1, :k])


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_policy_gives_its_completions_the_sampler_s_log_probs(model, prompts, temperature):
    policy = CausalPolicy(model, 1, temperature)
    done = policy.complete(*prompts, torch.arange(12), (0, "test", 0), 6)
    columns = {
        "prompt_ids": prompts[0].repeat_interleave(4, 0), "prompt_mask": prompts[1].repeat_interleave(4, 0),
        "actions": done.actions, "mask": done.mask,
    }  # fmt: skip
    with torch.no_grad():
        found = policy.log_probs(columns)
    np.testing.assert_allclose(found, done.log_probs, atol=CLOSE)
    other = CausalPolicy(model, 1, temperature + 0.3).log_probs(columns).detach()
    assert (other - done.log_probs).abs().max() > 100 * CLOSE


def test_any_of_several_tokens_ends_a_completion(model, prompts):
    u = torch.from_numpy(np.random.default_rng(2).random((12, 6)))
    policy = CausalPolicy(model, (1, 5, 9))
    done = sample(model, *prompts, u, eos=policy.with_model(model).eos)
    ended = set()
    for i in range(12):
        tokens = done.actions[i][done.mask[i]].tolist()
        assert not {1, 5, 9} & set(tokens[:-1])
        assert bool(done.finished[i]) == (tokens[-1] in (1, 5, 9)) == (len(tokens) < 6 or tokens[-1] in (1, 5, 9))
        ended |= {tokens[-1]} & {1, 5, 9}
    assert len(ended) > 1


def test_temperature_0_takes_the_likeliest_token(model, prompts):
    u = torch.zeros(3, 1, dtype=torch.float64)
    done = sample(model, *prompts, u, eos=1, temperature=0.0)
    with torch.no_grad():
        own = [int(model(p[m][None]).logits[0, -1].argmax()) for p, m in zip(*prompts, strict=True)]
    assert done.actions[:, 0].tolist() == own


def test_the_model_goes_back_to_training_mode(model, prompts):
    model.train()
    sample(model, *prompts, torch.zeros(3, 2, dtype=torch.float64), eos=1)
    assert model.training
    model.eval()


def test_bad_input_is_one_line(model, prompts):
    u = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(SettingError, match="4 rows"):
        sample(model, *prompts, u, eos=1)
    with pytest.raises(SettingError, match="temperature"):
        sample(model, *prompts, u[:3], eos=1, temperature=-1.0)
    with pytest.raises(SettingError, match="temperature"):
        CausalPolicy(model, 1, 0.0)


def test_characters_and_back():
    tokenizer = character_tokenizer()
    ids = tokenizer("Q12+3=").input_ids
    assert len(ids) == 6
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == "Q12+3="
    assert tokenizer("?").input_ids == [tokenizer.pad_token_id]
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, EOS)
    with pytest.raises(SettingError, match="'a' twice"):
        character_tokenizer("aba")


def test_weights_hang_on_the_seed_alone():
    before = torch.random.get_rng_state()
    a, b, c = (tiny_model(8, hidden=32, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)
    assert torch.equal(before, torch.random.get_rng_state())
