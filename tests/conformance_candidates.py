"""Candidates for the tests of the kit: right ones, and for each check one that is wrong in that respect only."""

from __future__ import annotations

import torch

from polytheory.conformance.contract import Batch, Candidate, Counts, Refused
from polytheory.conformance.targets import LOSS, Target, target
from polytheory.scaled.posttraining import base, composition
from polytheory.scaled.posttraining import copg as copg_registers_its_parts  # noqa: F401
from polytheory.scaled.posttraining import grpo as grpo_registers_its_parts  # noqa: F401
from polytheory.scaled.posttraining import rpo as rpo_registers_its_parts  # noqa: F401


def own(name: str, **settings) -> Candidate:
    """The scaled room's own computation of a target, which takes ``counts``."""
    found = target(name)

    def function(batch: Batch, *, counts: Counts, **settings) -> torch.Tensor:
        return scaled(found, batch, counts, settings)

    if found.kind != LOSS:
        return Candidate(f"own {name}", lambda batch, **s: scaled(found, batch, batch.counts, s), name, settings)
    return Candidate(f"own {name}", function, name, settings)


def scaled(found: Target, batch: Batch, counts: Counts, settings: dict) -> torch.Tensor:
    """A target's recipe in the scaled room."""
    columns, uses = batch.columns(), found.recipe(settings)
    for use in uses:
        part = base.PARTS[use.part]
        if part.writes:
            more = {"max_length": batch.max_length} if use.part == "overlong_shaping" else {}
            columns = part(columns, **use.settings, **more)
    if found.kind != LOSS:
        return columns[found.column]
    whole = base.Counts(counts.tokens, counts.sequences, counts.pairs)
    average = {"normalisation": settings.get("normalisation", "token_sum"), "max_length": batch.max_length}
    uses = [composition.Use(use.part, use.settings, use.weight) for use in uses]
    return composition.evaluate(columns, uses, counts=whole, **average)


def parts(batch: Batch):
    """Mask, and current, old and reference log-probs with zeros under it."""
    logs = (batch.log_probs, batch.log_probs_old, batch.log_probs_ref)
    return batch.mask, *(torch.where(batch.mask, x, 0.0) for x in logs)


def surrogate(l, old, a, eps=0.2):
    """The clipped surrogate as a loss."""
    ratio = (l - old).clamp(-20, 20).exp()
    return -torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a)


def row_means(terms, m):
    """Mean over rows of the means over their tokens."""
    return (torch.where(m, terms, 0.0).sum(1) / m.sum(1)).mean()


def grpo(batch, *, eps_low, eps_high, beta):
    """A user's GRPO, right."""
    m, l, old, ref = parts(batch)
    ratio, d = (l - old).clamp(-20, 20).exp(), (l - ref).clamp(-20, 20)
    a = batch.advantages[:, None]
    gain = torch.minimum(ratio * a, ratio.clamp(1 - eps_low, 1 + eps_high) * a)
    return row_means(-gain + beta * ((-d).exp() + d - 1), m)


def no_clip(batch, *, beta):
    """GRPO that forgets the clip."""
    m, l, old, ref = parts(batch)
    d = l - ref
    return row_means(-(l - old).exp() * batch.advantages[:, None] + beta * ((-d).exp() + d - 1), m)


def clip_on_the_wrong_side(batch, *, eps_low, eps_high, beta):
    """GRPO that takes the larger of the two surrogates."""
    m, l, old, ref = parts(batch)
    ratio, d, a = (l - old).exp(), l - ref, batch.advantages[:, None]
    gain = torch.maximum(ratio * a, ratio.clamp(1 - eps_low, 1 + eps_high) * a)
    return row_means(-gain + beta * ((-d).exp() + d - 1), m)


def local_token_mean(batch, *, beta):
    """GRPO averaged over all tokens at hand instead of over rows."""
    m, l, old, ref = parts(batch)
    d = (l - ref).clamp(-20, 20)
    terms = surrogate(l, old, batch.advantages[:, None]) + beta * ((-d).exp() + d - 1)
    return torch.where(m, terms, 0.0).sum() / m.sum()


def k3_sign(batch, *, beta):
    """GRPO with the KL estimate of the opposite difference."""
    m, l, old, ref = parts(batch)
    d = (ref - l).clamp(-20, 20)
    return row_means(surrogate(l, old, batch.advantages[:, None]) + beta * ((-d).exp() + d - 1), m)


def k3_without_one(batch):
    """Wrong by a constant a token: no gradient notices."""
    m, l, _, ref = parts(batch)
    d = (l - ref).clamp(-20, 20)
    return row_means((-d).exp() + d, m)


def straight_through(batch):
    """The right value, but gradients also of clipped tokens."""
    m, l, old, _ = parts(batch)
    a = batch.advantages[:, None]
    free = -(l - old).clamp(-20, 20).exp() * a
    return row_means(free + (surrogate(l, old, a) - free).detach(), m)


def no_old_no_gradient(batch):
    """Takes equal log-probs to mean that there is no ratio, and sets it to 1."""
    m, l, old, _ = parts(batch)
    a = batch.advantages[:, None]
    return row_means(-a + 0 * l if torch.equal(l, old) else surrogate(l, old, a), m)


def times_mask(batch):
    """Multiplies by the mask: NaN times 0 is NaN."""
    m = batch.mask.to(batch.log_probs.dtype)
    terms = surrogate(batch.log_probs, batch.log_probs_old, batch.advantages[:, None])
    return ((terms * m).sum(1) / m.sum(1)).mean()


def width_of_the_tensor(batch):
    """Lets the width of the tensor in, right where the longest row has no padding."""
    m, l, old, _ = parts(batch)
    longest = int(m.any(0).nonzero().max()) + 1
    return row_means(surrogate(l, old, batch.advantages[:, None]), m) * m.shape[1] / longest


def group_means(score, place, k):
    """Mean score of each row's group, where ``place`` numbers the groups from 0 to k - 1."""
    total = torch.zeros(k, dtype=score.dtype).index_add(0, place, score)
    return (total / torch.bincount(place, minlength=k))[place]


def standardised(score, place, k, eps):
    """GRPO's advantages."""
    centred = score - group_means(score, place, k)
    size = torch.bincount(place, minlength=k)[place]
    return centred / ((group_means(centred**2, place, k) * size / (size - 1)).sqrt() + eps)


def runs_of_rows(batch, *, eps):
    """Takes neighbours for a group."""
    ids, place = torch.unique_consecutive(batch.group, return_inverse=True)
    return standardised(batch.score, place, len(ids), eps)


def ids_are_numbers(batch, *, eps):
    """Takes the ids for places."""
    return standardised(batch.score, batch.group, len(batch.group.unique()), eps)


def one_group_size(batch):
    """Reshapes to [groups, G]."""
    order = torch.argsort(batch.group, stable=True)
    table = batch.score[order].reshape(len(batch.group.unique()), -1)
    others = (table.sum(1, keepdim=True) - table) / (table.shape[1] - 1)
    return torch.zeros_like(batch.score).index_copy(0, order, (table - others).reshape(-1))


def nothing_guards_zero(batch, *, eps):
    """Divides by the deviation, also where it is 0."""
    ids, place = batch.group.unique(return_inverse=True)
    return standardised(batch.score, place, len(ids), eps)


def one_pass_variance(batch, *, eps):
    """Mean square less squared mean: all digits go where scores are large."""
    ids, place = batch.group.unique(return_inverse=True)
    k, size = len(ids), torch.bincount(place)[place]
    mean = group_means(batch.score, place, k)
    variance = (group_means(batch.score**2, place, k) - mean**2).clamp(min=0) * size / (size - 1)
    return (batch.score - mean) / (variance.sqrt() + eps)


def length_by_last_token(batch):
    """Takes the place of the last trained token for the number of tokens."""
    m, l, old, _ = parts(batch)
    length = (m * torch.arange(1, m.shape[1] + 1)).max(1).values
    terms = surrogate(l, old, batch.advantages[:, None])
    return (torch.where(m, terms, 0.0).sum(1) / length).mean()


def means_of_rows(batch):
    """A token mean by way of means of rows: 0 / 0 in an empty one."""
    m, l, old, _ = parts(batch)
    terms = torch.where(m, surrogate(l, old, batch.advantages[:, None], 0.2), 0.0)
    return (terms.sum(1) / m.sum(1) * m.sum(1)).sum() / m.sum()


def first_advantage(batch):
    """Takes each row's first advantage for all of it."""
    m, l, old, _ = parts(batch)
    a = batch.advantages if batch.advantages.ndim == 1 else batch.advantages[:, 0]
    return row_means(surrogate(l, old, a[:, None]), m)


def no_clamp(batch):
    """Exponentiates any log ratio."""
    m, l, old, _ = parts(batch)
    ratio, a = (l - old).exp(), batch.advantages[:, None]
    return row_means(-torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a), m)


def half_precision(batch):
    """Computes float32 in bfloat16."""
    m, l, old, _ = parts(batch)
    a = batch.advantages[:, None]
    if l.dtype == torch.float32:
        l, old, a = (x.bfloat16() for x in (l, old, a))
    return row_means(surrogate(l, old, a), m)


def mean_of_local_means(batch, *, counts):
    """A token mean of each micro-batch, these averaged by their rows."""
    m, l, old, _ = parts(batch)
    terms = torch.where(m, surrogate(l, old, batch.advantages[:, None]), 0.0)
    return terms.sum() / m.sum() * (len(m) / counts.sequences)


def whole_steps(batch, *, counts):
    """Divides by the number of equally large micro-batches that would fit."""
    m, l, old, _ = parts(batch)
    return row_means(surrogate(l, old, batch.advantages[:, None]), m) / (counts.sequences // len(m))


def in_place(batch):
    """Centres the scores where they lie."""
    ids, place = batch.group.unique(return_inverse=True)
    size = torch.bincount(place)[place]
    return batch.score.sub_(group_means(batch.score, place, len(ids))) * size / (size - 1)


class Remembers:
    """Answers something else when the same batch, of two rows or more, comes again at once."""

    def __init__(self):
        self.last = ""

    def __call__(self, batch):
        text = f"{batch.lists()} {batch.score.dtype}"
        again, self.last = text == self.last and len(batch.score) > 1, text
        return batch.score - (0.5 if again else 0.25)


MEAN, NO_EPS = {"normalisation": "token_mean"}, {"eps": 0.0}
MUTANTS = {
    "value": Candidate("k3_without_one", k3_without_one, "kl_k3"),
    "gradient": Candidate("straight_through", straight_through, "grpo", {"beta": 0.0}),
    "on_policy": Candidate("no_old_no_gradient", no_old_no_gradient, "grpo", {"beta": 0.0}),
    "masked_garbage": Candidate("times_mask", times_mask, "grpo", {"beta": 0.0}),
    "padding": Candidate("width_of_the_tensor", width_of_the_tensor, "grpo", {"beta": 0.0}),
    "row_order": Candidate("runs_of_rows", runs_of_rows, "group_advantages"),
    "group_names": Candidate("ids_are_numbers", ids_are_numbers, "group_advantages"),
    "unequal_groups": Candidate("one_group_size", one_group_size, "rloo"),
    "equal_scores": Candidate("nothing_guards_zero", nothing_guards_zero, "group_advantages", NO_EPS),
    "large_scores": Candidate("one_pass_variance", one_pass_variance, "group_advantages"),
    "mask_holes": Candidate("length_by_last_token", length_by_last_token, "grpo", {"beta": 0.0}),
    "empty_rows": Candidate("means_of_rows", means_of_rows, "grpo", {"beta": 0.0, **MEAN}),
    "token_advantages": Candidate("first_advantage", first_advantage, "ppo_clip"),
    "ratio_overflow": Candidate("no_clamp", no_clamp, "grpo", {"beta": 0.0}),
    "float32": Candidate("half_precision", half_precision, "grpo", {"beta": 0.0}),
    "micro_batches": Candidate("mean_of_local_means", mean_of_local_means, "grpo", {"beta": 0.0, **MEAN}),
    "unequal_micro_batches": Candidate("whole_steps", whole_steps, "grpo", {"beta": 0.0}),
    "inputs_untouched": Candidate("in_place", in_place, "rloo"),
    "repeatable": Candidate("Remembers", Remembers(), "reinforce_advantages", {"baseline": 0.25}),
}
WRONG_GRPO = (no_clip, clip_on_the_wrong_side, local_token_mean, k3_sign)


def refuses_kl(batch, *, beta):
    """Cannot map a KL loss, nor unequal groups."""
    if beta:
        raise Refused("there is no\nKL loss")
    return grpo(batch, eps_low=0.2, eps_high=0.2, beta=0.0)


CONFORMANCE = {"grpo": {"against": "grpo", "settings": {"beta": 0.1}}}
