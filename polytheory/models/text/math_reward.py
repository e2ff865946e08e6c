"""Rewards for mathematics and for the form of an answer: ``f(completions, **columns) -> scores`` that need no model.

The value of an answer is compared by `math-verify` (extra ``math``), so that 1/2, 0.5 and \\frac{1}{2} are one answer.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from polytheory.errors import require

FINAL = "####"  # GSM8K writes its result behind this
SECONDS = 2  # for an expression such as 9^9^9^9, which is then wrong
_THINK = re.compile(r"\s*<think>(?!.*<think>).*?</think>(?!.*</think>).*\S.*", re.DOTALL)


def math_reward(completions: Sequence[Any], *, answer: Sequence[Any], **_: Any) -> list[float]:
    """1 where the completion's final result equals the answer's in value, else 0.

    Of both, what stands behind the last ``####`` counts where there is one (GSM8K), else what math-verify finds: the last
    \\boxed formula, or the last formula or number. What is equal letter by letter is equal.

    Raises `MissingExtraError` without math-verify.
    """
    require("math_verify", "math")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # a formula that takes too long is wrong, and no news
    return [float(equal(str(a), str(c))) for c, a in zip(completions, answer, strict=True)]


def think_format(completions: Sequence[str], **_: Any) -> list[float]:
    """1 where a completion is ``<think>...</think>`` once, with something behind it, else 0."""
    return [float(_THINK.fullmatch(c) is not None) for c in completions]


def equal(answer: str, completion: str) -> bool:
    """True when the two have the same final result."""
    gold, found = final(answer), final(completion)
    if gold == found:
        return True
    verify = require("math_verify", "math").verify
    return bool(verify(list(_gold(gold)), _parse(found), timeout_seconds=_limit()))


def final(text: str) -> str:
    """What stands behind the last ``####``, else all of it."""
    return text.rpartition(FINAL)[2].strip()


@lru_cache(maxsize=100_000)
def _gold(text: str) -> tuple[Any, ...]:
    # a bare formula such as \\frac{1}{2} is only seen as one between dollars
    return tuple(_parse(text) or _parse(f"${text}$"))


def _parse(text: str) -> list[Any]:
    return require("math_verify", "math").parse(text, parsing_timeout=_limit())


def _limit() -> int | None:
    """Time for one expression; math-verify's clock works in the main thread only."""
    return SECONDS if threading.current_thread() is threading.main_thread() else None
