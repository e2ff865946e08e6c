"""From words on the command line to settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from polytheory.errors import SettingError
from polytheory.lab.build import ROOMS as ROOMS
from polytheory.lab.build import algorithm_class as algorithm_class
from polytheory.lab.build import make_algorithm as make_algorithm
from polytheory.lab.build import make_model as make_model
from polytheory.lab.build import policy_values as policy_values


def parse_pairs(words: Sequence[str], option: str) -> dict[str, Any]:
    """``key=value`` words as a dict; values are read as JSON where they can be, as text where not.

    Raises `SettingError` on a word without "=" or a key given twice.
    """
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise SettingError(f"{option} {word}: expected key=value, such as {option} gamma=0.9")
        if key in pairs:
            raise SettingError(f"{option} {key} is given twice; give it once")
        pairs[key] = _value(text.strip())
    return pairs


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except ValueError:
        return text
