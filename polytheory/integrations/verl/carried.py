"""What verl's hooks carry (verl 0.9).

A policy loss of verl is given old and current log-probs, advantages [n, t], the mask and verl's weights of the sampler; an
advantage estimator is given rewards of tokens, the mask, prompts' names and the settings under ``algorithm``. Nothing else.
"""

from __future__ import annotations

from polytheory.integrations.parts import Carried, all_parts, short_names, why_not
from polytheory.parts import Kind, Part

PREFIX = "polytheory_"
LOSS_COLUMNS = ("mask", "advantages", "log_probs", "log_probs_old", "sampler_weights")
ADVANTAGE_COLUMNS = ("score", "group", "mask")
PACKED = ("verdict", "r_hat")  # travel in the advantages, see `nft.pack_verdicts`
OWN_KL = {
    "kl_k1": "set actor.use_kl_loss=True and kl_loss_type=kl, the same estimate",
    "kl_k2": "set actor.use_kl_loss=True and kl_loss_type=mse, the same estimate",
    "kl_k3": "set actor.use_kl_loss=True and kl_loss_type=low_var_kl, the same estimate up to a clamp at 10",
    "kl_rho_k3": "verl has no such estimate; low_var_kl+ has its gradient on policy",
}
NOT_A_LOSS = {
    "log_probs_ref": "verl hands reference log-probs to its own KL loss only",
    "pairs": "verl deals completions to micro-batches one by one, a pair would be split",
    "group": "verl deals completions to micro-batches one by one, a group would be split",
    "score": "verl hands scores to advantage estimators only",
    "baseline": "verl has no column of baselines",
}
NOT_AN_ADVANTAGE = {
    "values": "verl hands values to its own gae only",
    "advantages": "it corrects advantages that another estimator made, and verl runs one estimator",
    "log_probs_old": "verl hands log-probs to its own optimal token baselines only",
    "log_probs_ref": "verl hands reference log-probs to its own KL penalty only (algorithm.use_kl_in_reward)",
    "bundle": "verl has no bundles of prompts",
    "bundle_sample": "verl has no bundles of prompts",
    "bundle_score": "verl has no bundles of prompts",
    "bundle_advantages": "verl has no bundles of prompts",
}
MEMORY = "it keeps a memory from step to step, which verl neither keeps nor saves"
NOTES = {
    "group_advantages": "settings scale, ddof, eps under algorithm.polytheory",
    "reinforce_advantages": "setting baseline under algorithm.polytheory",
    "pack_verdicts": "verdict and mean of the group in one number, for the loss polytheory_nft",
    "nft": "with algorithm.adv_estimator=polytheory_nft; groups all right or all wrong have no loss",
    "gspo": "needs loss_agg_mode=seq-mean-token-mean",
}


def refusal(part: Part) -> str | None:
    """Why verl cannot carry an advantage or a loss, in one line; None where it can."""
    if part.kind == Kind.LOSS:
        reason = why_not(part, (*LOSS_COLUMNS, *PACKED), NOT_A_LOSS, MEMORY)
        return f"{reason}: {OWN_KL[part.name]}" if reason and part.name in OWN_KL else reason
    return why_not(part, (*ADVANTAGE_COLUMNS, *PACKED), NOT_AN_ADVANTAGE, MEMORY)


def names(kind: Kind) -> dict[str, str]:
    """verl's name of every advantage or loss -> the part."""
    found = {PREFIX + name: part for name, part in short_names(kind).items()}
    if kind == Kind.ADVANTAGE:
        found[f"{PREFIX}nft"] = found.pop(f"{PREFIX}pack_verdicts")
    return found


def table() -> list[Carried]:
    """Every advantage and loss of the scaled room: carried or refused, and why."""
    rows = []
    for kind in (Kind.ADVANTAGE, Kind.LOSS):
        for name, part in sorted(names(kind).items()):
            reason = refusal(all_parts()[part])
            rows.append(Carried(name, part, str(kind), reason is None, reason or NOTES.get(part, "")))
    return rows
