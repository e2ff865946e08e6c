"""Completions of a sampler against the trainer's own log-probs of them."""

import torch

from polytheory.scaled.language.policy import CausalPolicy

KEY = (3, "test/completions", 7)
# float32 sums in another order, measured up to 5e-5; every mistake below is a thousand times larger
CLOSE, OFF = 1e-4, 0.05


def completed(sampler, model, prompts, *, each=4, temperature=1.0, eos=1, longest=8, key=KEY):
    """Completions, and the trainer's log-probs of them under the same temperature."""
    policy = CausalPolicy(model, eos, temperature, sampler=sampler)
    done = policy.complete(*prompts, torch.arange(each * len(prompts[0])), key, longest)
    columns = {
        "prompt_ids": prompts[0].repeat_interleave(each, 0), "prompt_mask": prompts[1].repeat_interleave(each, 0),
        "actions": done.actions, "mask": done.mask,
    }  # fmt: skip
    with torch.no_grad():
        return done, policy.log_probs(columns)


def gap(sampler, model, prompts, **options):
    """Largest difference in nats between sampler and trainer, on tokens of completions that were just sampled."""
    done, found = completed(sampler, model, prompts, **options)
    assert done.mask.any(1).all()
    assert not done.log_probs[~done.mask].any()
    return float((found - done.log_probs).abs().max())


def changed(model, factor=1.2):
    """Other weights, in place."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(factor)
    return model


def spread(completions):
    """A reward that differs within almost every group, also of a model that knows nothing."""
    return [float(sum(ord(c) % 7 for c in text)) for text in completions]
