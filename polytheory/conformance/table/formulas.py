"""The papers' formulas of the table, put together from the kit's targets: NumPy in float64, gradients in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from polytheory.conformance.contract import Batch
from polytheory.conformance.targets import target

UNIT = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Numbers:
    """What a setting computes on a batch: ``loss`` and ``gradient`` [n, t], or ``values`` [n] or [n, t] of an estimator."""

    loss: float | None = None
    gradient: np.ndarray | None = None
    values: np.ndarray | None = None

    @property
    def gradient_norm(self) -> float:
        """Euclidean norm of the gradient in all current log-probs."""
        return float(np.linalg.norm(self.gradient)) if self.gradient is not None else 0.0


@dataclass(frozen=True, eq=False)
class Term:
    """A target with settings, times ``weight``.

    Fields: ``prepare`` changes the batch before; ``counts`` adds to the loss only the "value" or the "gradient", or "both".
    """

    target: str
    settings: dict[str, Any]
    weight: float = 1.0
    prepare: Callable[[Batch], Batch] | None = None
    counts: str = "both"


@dataclass(frozen=True, eq=False)
class Formula:
    """A formula of a paper.

    Fields: ``title`` for readers; ``source`` the paper; ``text`` how polytheory writes it; ``terms`` to be summed.
    """

    title: str
    source: str
    text: str
    terms: tuple[Term, ...]

    def numbers(self, batch: Batch) -> tuple[Numbers, float]:
        """The numbers and the error that float64 rounding may make in them (see `Target.scale`)."""
        value, gradient, scale = 0.0, np.zeros(batch.mask.shape), 0.0
        for term in self.terms:
            found, prepared = target(term.target), term.prepare(batch) if term.prepare else batch
            expected = found.expected(prepared, found.full(term.settings))
            scale += abs(term.weight) * expected.scale
            if found.kind == "column":
                return Numbers(
                    values=np.where(batch.mask, expected.value, 0.0) if expected.value.ndim == 2 else expected.value
                ), UNIT * scale
            if term.counts != "gradient":
                value += term.weight * float(expected.value)
            if term.counts != "value":
                gradient = gradient + term.weight * expected.gradient["log_probs"]
        return Numbers(value, gradient), UNIT * scale


def one(title: str, source: str, name: str, **settings: Any) -> Formula:
    """A formula that is one target."""
    inside = ", ".join(f"{k}={v!r}" for k, v in settings.items())
    return Formula(title, source, f"{name}({inside})", (Term(name, settings),))


def clip(title: str, normalisation: str, source: str = "schulman2017", **settings: Any) -> Formula:
    """The clipped surrogate without KL under a normalisation."""
    return one(title, source, "ppo_clip", **settings, normalisation=normalisation)


def chosen_only(batch: Batch) -> Batch:
    """Only the chosen completions are trained, each with advantage 1; every one is chosen once."""
    chosen = torch.zeros(len(batch.mask), dtype=torch.bool)
    chosen[batch.pairs[:, 0]] = True
    return replace(batch, mask=batch.mask & chosen[:, None], advantages=torch.ones_like(batch.advantages))


def old_as_ref(batch: Batch) -> Batch:
    """The old policy in the place of the reference policy."""
    return replace(batch, log_probs_ref=batch.log_probs_old)


def weighted_by_sampler(batch: Batch) -> Batch:
    """Advantages times ``min(prod current / sampler, 2)``, the weight of the whole completion."""
    weights = target("truncated_is").expected(
        replace(batch, log_probs_old=batch.log_probs.detach()),
        target("truncated_is").full({"cap": 2.0, "unit": "sequence"}),
    )
    return replace(batch, advantages=batch.advantages * torch.from_numpy(weights.value))


def sampler_as_old(batch: Batch) -> Batch:
    """The sampler in the place of the old policy."""
    return replace(batch, log_probs_old=batch.log_probs_sampler)


GRPO, DAPO, DR, LUO = "shao2024", "yu2025", "liu2025", "schulman2017"
FORMULAS: dict[str, Formula] = {
    "seq mean": clip("PPO clip, mean of completions' means (GRPO without KL)", "seq_mean", GRPO),
    "token mean": clip("PPO clip, mean over all tokens (DAPO's average)", "token_mean", DAPO),
    "clip higher": clip("PPO clip, mean over all tokens, clip-higher (DAPO)", "token_mean", DAPO, eps_high=0.28),
    "constant": clip("PPO clip, divided by a constant length (Dr. GRPO)", "constant", DR),
    "seq sum": clip("PPO clip, mean of completions' sums", "seq_sum"),
    "token sum": clip("PPO clip, sum over all tokens", "token_sum"),
    "dual clip": clip("PPO clip with dual clip 3, mean over all tokens", "token_mean", "ye2020", dual=3.0),
    "dual clip, seq mean": clip("PPO clip with dual clip 3, mean of completions' means", "seq_mean", "ye2020", dual=3.0),
    "narrow clip": clip("PPO clip with width 0.1 and dual clip 3, mean over all tokens", "token_mean", LUO, dual=3.0,
                        eps_low=0.1, eps_high=0.1),
    "gspo": one("GSPO, width 0.2", "zheng2025, eq. 5", "gspo", eps_low=0.2, eps_high=0.2),
    "gspo, paper": one("GSPO, the paper's widths", "zheng2025, eq. 5", "gspo", eps_low=3e-4, eps_high=4e-4),
    "cispo": Formula("CISPO, ratios capped at 5, mean over all tokens", "minimax2025, eq. 4",
                     "cispo(ratio_low=0, ratio_high=5, normalisation='token_mean')",
                     (Term("cispo", {"ratio_low": 0.0, "ratio_high": 5.0, "normalisation": "token_mean"}),)),
    "cispo, 1 ± 0.2": one("CISPO, ratios held in [0.8, 1.2], mean over all tokens", "minimax2025, eq. 4", "cispo",
                          ratio_low=0.8, ratio_high=1.2, normalisation="token_mean"),
    "reinforce": one("REINFORCE, mean over all tokens", "williams1992", "reinforce", normalisation="token_mean"),
    "reinforce, seq sum": one("REINFORCE, mean of completions' sums (RLOO's loss)", "ahmadian2024", "reinforce",
                              normalisation="seq_sum"),
    "grpo with k3": one("GRPO: PPO clip + 0.1 k3, mean of completions' means", "shao2024, eq. 3 and 4", "grpo", beta=0.1),
    "grpo with rho k3": one("PPO clip + 0.1 ρ k3 (unbiased KL), mean of completions' means", "deepseek2025", "grpo",
                            beta=0.1, kl="rho_k3"),
    "unbiased kl": one("0.1 ρ k3 alone (unbiased KL)", "deepseek2025", "grpo", beta=0.1, kl="rho_k3"),
    "k1": one("KL estimate k1 as a loss, mean over all tokens", "schulman2020", "kl_k1", normalisation="token_mean"),
    "k2": one("KL estimate k2 as a loss, mean over all tokens", "schulman2020", "kl_k2", normalisation="token_mean"),
    "k3": one("KL estimate k3 as a loss, mean over all tokens", "schulman2020", "kl_k3", normalisation="token_mean"),
    "k1 with k2": Formula("value of k1, gradient of k2", "schulman2020", "value of kl_k1, gradient of kl_k2",
                          (Term("kl_k1", {"normalisation": "token_mean"}, counts="value"),
                           Term("kl_k2", {"normalisation": "token_mean"}, counts="gradient"))),
    "k3 with k2": Formula("value of k3, gradient of k2", "schulman2020", "value of kl_k3, gradient of kl_k2",
                          (Term("kl_k3", {"normalisation": "token_mean"}, counts="value"),
                           Term("kl_k2", {"normalisation": "token_mean"}, counts="gradient"))),
    **{
        f"{kind} {unit} {cap:g}": one(
            f"PPO clip × {word} weights of the {unit}, cap {cap:g}, mean over all tokens", source, "grpo", beta=0.0,
            normalisation="token_mean", correction=kind, correction_unit=unit, cap=cap)
        for cap in (3.0, 2.0) for unit in ("token", "sequence")
        for kind, word, source in (("truncate", "truncated", "yao2025"), ("mask", "masked", "ling2025"))
    },
    "dro": Formula("REINFORCE + 0.1/2 (log π - log old)², mean over all tokens", "richemond2024",
                   "reinforce + 0.1 kl_k2, the old policy as reference",
                   (Term("reinforce", {"normalisation": "token_mean"}),
                    Term("kl_k2", {"normalisation": "token_mean"}, 0.1, old_as_ref))),
    "sampler ratio": Formula("PPO clip with the ratio to the sampler and dual clip 3, mean over all tokens", "ye2020",
                             "ppo_clip(dual=3.0, normalisation='token_mean'), the sampler as old policy",
                             (Term("ppo_clip", {"dual": 3.0, "normalisation": "token_mean"}, prepare=sampler_as_old),)),
    "sampler reinforce": Formula("REINFORCE × truncated weights of the completion, cap 2, mean over all tokens", "yao2025",
                                 "reinforce, advantages × truncated_is(cap=2, unit='sequence')",
                                 (Term("reinforce", {"normalisation": "token_mean"}, prepare=weighted_by_sampler),)),
    "dpo": one("DPO, β = 0.1", "rafailov2023, eq. 7", "dpo", beta=0.1),
    "ipo": one("IPO, τ = 0.1", "azar2024, eq. 17", "ipo", tau=0.1),
    "sft": Formula("negative log-likelihood of the chosen completions, mean over their tokens", "",
                   "reinforce on the chosen rows, advantages 1",
                   (Term("reinforce", {"normalisation": "token_mean"}, prepare=chosen_only),)),
    "dpo + sft": Formula("DPO + 0.5 × likelihood of the chosen", "pang2024",
                         "dpo(beta=0.1) + 0.5 reinforce on the chosen rows",
                         (Term("dpo", {"beta": 0.1}), Term("reinforce", {"normalisation": "token_mean"}, 0.5, chosen_only))),
    "group scaled": one("(R - mean) / std of the group, without ε", GRPO, "group_advantages", eps=0.0),
    "batch scaled": one("(R - mean of the group) / std of the batch, without ε", "hu2025", "group_advantages",
                        scale="batch", eps=0.0),
    "not scaled": one("R - mean of the group (Dr. GRPO)", DR, "group_advantages", scale="none", eps=0.0),
    "rloo": one("R - mean of the others (RLOO)", "kool2019; ahmadian2024", "rloo"),
    "rloo with kl": Formula("RLOO of rewards less 0.1 k1 of the completion", "ahmadian2024", "kl_in_score(beta=0.1), then rloo",
                            (Term("rloo", {}, prepare=lambda batch: replace(
                                batch, score=torch.from_numpy(target("kl_in_score").expected(batch, {"beta": 0.1}).value))),)),
    "reward": one("R less the reward of the greedy completion, here 0 (ReMax)", "li2023", "reinforce_advantages"),
    "gae": one("GAE, γ = 1, λ = 1", "schulman2016, eq. 16", "gae"),
    "gae, 0.9 0.95": one("GAE, γ = 0.9, λ = 0.95", "schulman2016, eq. 16", "gae", gamma=0.9, lam=0.95),
}  # fmt: skip
