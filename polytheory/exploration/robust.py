"""Settings of DR-RPO and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polytheory.exploration.episodic import EpisodicSettings
from polytheory.models.factor_ambiguity import check_learner


@dataclass(frozen=True, eq=False)
class DrRpoSettings(EpisodicSettings):
    """Those of `EpisodicSettings` (``episodes``, ``delta`` are without use here), and:

    Fields:
        phi: [S, A, d] weights of the factors, see `factor_features`; None is one factor for every pair, sets by (s, a).
        bonus_scale: size of beta, the factor of the bonus, >= 0; 0.1 to 1 in the experiments of the sister papers.
        kind: one of `factor_ambiguity.KINDS`. radius: a number, [d] or [H, d]; for the penalised kinds the price.
        eta: price of the relative entropy to the reference policy, >= 0, in units of the value.
        reference: [H, S, A] > 0, or None for the uniform policy.
        moving_reference: pay for leaving the policy of the episode before (mirror descent) in place of ``reference``.
        fail_state: a state known to pay nothing for ever, or None.
        centred: see `factor_values`. pessimistic: subtract the bonus, for data that are given (``offline``).
    """

    bonus_scale: float = 0.1
    kind: str = "tv"
    radius: Any = 0.2
    eta: float = 0.05
    reference: Any = None
    moving_reference: bool = False
    fail_state: int | None = None
    centred: bool = False
    pessimistic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_learner(self)
