"""The token MDP of a tiny language model with a reward on whole sequences."""

from __future__ import annotations

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.models.tabular_lm import TabularLM

# token 1 counts; lengths include EOS
REWARDS = {
    "odd-ones": lambda y: float(y.count(1) % 2),
    "ones-minus-half-length": lambda y: y.count(1) - 0.5 * len(y),
}


def token_mdp(*, reward: str = "odd-ones", vocabulary: int = 3, max_length: int = 3) -> TabularMDP:
    """Write a sequence token by token; it ends at EOS (the last token) or at ``max_length``, and is paid then.

    Args:
        reward: "odd-ones" pays 1 for an odd number of tokens equal to 1, "ones-minus-half-length" their number less half
            the length (EOS included).
        vocabulary: tokens, EOS included, >= 3 (token 1 must not be EOS). max_length: in tokens, >= 1.

    Known answers at the defaults: the best return is 1 ("odd-ones") and 3/2 ("ones-minus-half-length").
    Raises `UnknownNameError` for another reward, `SettingError` and `ModelError` for sizes too small or too large to enumerate.
    """
    if reward not in REWARDS:
        raise UnknownNameError("reward", reward, REWARDS)
    if vocabulary < 3:
        raise SettingError(f"vocabulary = {vocabulary}; token 1 must not be EOS, at least 3 tokens are needed")
    lm = TabularLM(vocabulary, max_length)
    return lm.to_tabular(lm.reward(REWARDS[reward]))
