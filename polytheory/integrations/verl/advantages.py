"""Advantages of ours as advantage estimators of verl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import ColumnError, SettingError
from polytheory.integrations.parts import all_parts, check_settings, refuse_given
from polytheory.integrations.verl.carried import PREFIX, refusal
from polytheory.parts import Part

OWN = {"gamma": 1.0, "lam": 1.0, "norm_adv_by_std_in_grpo": True}


def estimator(part: Part) -> Callable[..., Any]:
    """verl's function for an advantage of ours: it returns ``(advantages, returns)``, both the advantages [n, t].

    The score is the sum of the rewards of a row's tokens, the group the prompt's ``uid``. Settings of the part are read from
    ``algorithm.polytheory``. The function raises `SettingError` for an advantage that verl cannot carry and for settings
    of verl's that would be ignored, `UnknownNameError` for settings, `ColumnError` for groups that do not fit.
    """

    def advantages(
        token_level_rewards: Float[torch.Tensor, "n t"],
        response_mask: Float[torch.Tensor, "n t"],
        config: Any = None,
        index: np.ndarray | None = None,
        **others: Any,
    ) -> tuple[Float[torch.Tensor, "n t"], Float[torch.Tensor, "n t"]]:
        settings = check_advantage(part, config)
        mask = response_mask.bool()
        columns: dict[str, Any] = {"mask": mask, "score": token_level_rewards.sum(-1)}
        if "group" in part.reads or part.name == "pack_verdicts":
            if index is None:
                raise ColumnError(f"{PREFIX}{part.name} needs the prompt of every completion; the batch has no uid")
            group = np.unique(index.astype(str), return_inverse=True)[1]
            columns["group"] = torch.as_tensor(group.reshape(-1), device=mask.device)
        found = _packed(part, columns) if part.name == "pack_verdicts" else part(columns, **settings)
        a = found["advantages"].to(token_level_rewards.dtype)[:, None]
        a = torch.where(mask, a, torch.zeros_like(a))
        return a, a

    return advantages


def check_advantage(part: Part, config: Any) -> dict[str, Any]:
    """The part's settings in verl's ``algorithm``, checked with all that the part does not fit; raises as `estimator`'s."""
    reason = refusal(part)
    if reason:
        raise SettingError(f"verl cannot carry {PREFIX}{part.name}: {reason}")
    get = (lambda name, default: default) if config is None else config.get
    where = {"norm_adv_by_std_in_grpo": "set algorithm.polytheory.scale=none"}
    refuse_given(
        "verl", {k: (get(k, v), v, where.get(k, "advantages of completions have none")) for k, v in OWN.items()}
    )
    return check_settings(part, get("polytheory", None) or {})


def _packed(part: Part, columns: dict[str, Any]) -> dict[str, Any]:
    """Verdicts packed where a group has both, 0 where it has one: the loss leaves these rows out."""
    columns = all_parts()["group_verdicts"](columns)
    r_hat = columns["r_hat"]
    mixed = (r_hat > 0) & (r_hat < 1)
    packed = part({**columns, "r_hat": torch.where(mixed, r_hat, torch.full_like(r_hat, 0.5))})["advantages"]
    return {**columns, "advantages": torch.where(mixed, packed, torch.zeros_like(packed))}
