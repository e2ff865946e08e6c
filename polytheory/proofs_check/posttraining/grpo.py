"""Claims of GRPO and of the foundations of the family, and what `polytheory verify grpo` solves."""

from __future__ import annotations

from typing import Any

from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.posttraining import advantage_claims as advantage_claims
from polytheory.proofs_check.posttraining import data_claims as data_claims
from polytheory.proofs_check.posttraining import kl_claims as kl_claims
from polytheory.proofs_check.posttraining import log_prob_claims as log_prob_claims
from polytheory.proofs_check.posttraining import loss_claims as loss_claims
from polytheory.proofs_check.posttraining import update_claims as update_claims


def _softmax(update: str = "", gamma0: float = 0.1, **settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        made = {"update": room.part(update)(gamma0=gamma0)} if update else {}
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **made, **settings}

    return build


_SCORE = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0}


DEMOS = (
    Demo(
        "token-mdp", "Grpo", _softmax(prompts=2, step_size=1.0), steps=40,
        options={"reward": "ones-minus-half-length"}, lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "Grpo",
        _softmax(group_size=4, step_size=1.0, eps_high=0.28, normalisation="token_mean", beta=0.0, dynamic=True, rounds=3),
        steps=40, lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "Grpo", _softmax(surrogate="gspo", step_size=1.0, updates=2, eps_low=0.05, eps_high=0.05), steps=25,
        lockstep_steps=12,
    ),
    Demo("token-mdp", "Grpo", _softmax("NPgIgt", 1.0, group_size=4, **_SCORE), steps=40, lockstep_steps=12),
    Demo("token-mdp", "Grpo", _softmax("Harpg", 1.0, group_size=4, **_SCORE), steps=40, lockstep_steps=12),
)  # fmt: skip
