"""What sampled returns say of an objective, with an interval.

References:
    [rockafellar2000] Rockafellar and Uryasev, Optimization of conditional value-at-risk, J. Risk 2(3). [wilson1927] Wilson,
    Probable inference, JASA 22.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.objectives import Entropic, Objective, admit
from polytheory.streams import row_ids


class Judged(NamedTuple):
    """An estimate ``value`` and the ends ``low``, ``high`` of its interval."""

    value: float
    low: float
    high: float


def judged(judge: Objective, returns: Float[np.ndarray, " n"], level: float = 0.95) -> Judged:
    """The objective of independent returns.

    Setting: expected utilities and their certainty equivalents (`polytheory.models.objectives`), scalar returns.
    Update: the objective of the n returns; with its initial stock c0 it is ``-c0 + mean f(c0 + G_i)``, and as c0 is optimal
    moving it changes nothing to first order, so that the interval is that of a mean.
    Guarantee: coverage ``level`` as n grows (central limit theorem); for probabilities Wilson's interval [wilson1927].

    Raises `SettingError` for fewer than 2 returns or a level outside (0, 1), `ObjectiveError` for no expected utility.
    """
    admit(judge, gamma=1.0, horizon=1)
    n = len(returns)
    if n < 2 or not 0 < level < 1:
        raise SettingError(f"{n} returns and level = {level}; an interval needs at least 2 and a level in (0, 1)")
    x, counts = np.unique(np.asarray(returns, dtype=float), return_counts=True)
    z, each = NormalDist().inv_cdf((1 + level) / 2), counts / n
    value = float(judge.of_return(x, each))
    utility = np.asarray(judge.utility(x + _stock(judge, x, each, value)), dtype=float)
    if judge.degree == 0:  # a probability
        centre, spread = (
            (value + z * z / (2 * n)) / (1 + z * z / n),
            np.sqrt(value * (1 - value) / n + (z / (2 * n)) ** 2),
        )
        half = z * float(spread) / (1 + z * z / n)
        return Judged(value, centre - half, centre + half)
    half = z * float(np.sqrt(each @ (utility - each @ utility) ** 2 / (n - 1)))
    return Judged(value, value - half, value + half)


def _stock(judge: Objective, x: np.ndarray, each: np.ndarray, value: float) -> float:
    """The best initial stock of these returns."""
    if isinstance(judge, Entropic):
        return -value  # where the mean utility is 0, and has slope 1
    if judge.outer is None:
        return float(judge.stock)
    kinks = -x[::-1]
    found = [float(judge.total(judge.value(x + c, each), c)) for c in kinks]
    return float(kinks[int(np.argmax(found) if judge.outer == "max" else np.argmin(found))])


def held_out_returns(
    access: Any, policy: Any, episodes: int, steps: int, *, seed: int = 1000
) -> Float[np.ndarray, " n"]:
    """Discounted returns of a policy in fresh episodes of at most ``steps`` steps; the policy starts alike in all of them."""
    from polytheory.access import Key, Requests

    rows = row_ids(0, np.arange(episodes))
    traj = access.rollouts(policy, Requests(rows, steps), Key(seed, "held-out", 0))
    rewards = np.where(np.asarray(traj.mask), np.asarray(traj.rewards, dtype=float), 0.0)
    return rewards @ float(access.spec.gamma) ** np.arange(rewards.shape[1])
