"""What TRL's GRPOTrainer carries with `PolytheoryGRPOTrainer` (TRL 1.16)."""

from __future__ import annotations

from polytheory.integrations.parts import Carried, all_parts, short_names, why_not
from polytheory.parts import Kind, Part

COLUMNS = ("mask", "score", "group", "log_probs", "log_probs_old", "log_probs_ref", "advantages")
IN_METHODS = {
    "verdict": "composition=Nft(policy=None)",
    "bundle_score": "composition=RiskPo(policy=None)",
    "bundle_advantages": "composition=RiskPo(policy=None)",
    "pairs": "composition=Copg(policy=None)",
}
CHOSEN = "completions have scores, none is the chosen one of a pair; TRL's own DPOTrainer has such data"
REASONS = {
    "values": "GRPOTrainer has no critic",
    "baseline": "the data have no column of baselines",
}


def refusal(part: Part) -> str | None:
    """Why the trainer cannot carry an advantage or a loss, in one line; None where it can."""
    if part.name in ("dpo", "ipo", "rpo"):
        return CHOSEN
    given = (*COLUMNS, *IN_METHODS, "r_hat", "bundle", "bundle_sample")
    return why_not(part, given, REASONS, None)


def table() -> list[Carried]:
    """Every advantage and loss of the scaled room: carried or refused, and why."""
    rows = []
    for kind in (Kind.ADVANTAGE, Kind.LOSS):
        for name, part in sorted(short_names(kind).items()):
            found = all_parts()[part]
            reason = refusal(found)
            notes = dict.fromkeys(f"with {IN_METHODS[c]}" for c in found.reads if c in IN_METHODS)
            rows.append(Carried(name, part, str(kind), reason is None, reason or "; ".join(notes)))
    return rows
