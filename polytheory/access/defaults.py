"""A named access on a model, with nothing else to say."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.access import NAMED, Grant, TabularAccess
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.layered import layers_of, uniform_resets
from polytheory.models.tabular import TabularMDP


def default_access(name: str, model: TabularMDP, *, known_rewards: bool = False) -> TabularAccess:
    """The access of that name; one that needs a reset law gets the uniform one, layer by layer on a layered model.

    ``known_rewards`` makes the rewards public, as in `TabularAccess`.

    Raises `UnknownNameError` for a name that does not exist.
    """
    if name not in NAMED:
        raise UnknownNameError("access", name, NAMED)
    options: dict[str, Any] = {}
    if Grant.MU_RESET in NAMED[name].grants and Grant.MODEL not in NAMED[name].grants:
        options["reset"] = _uniform(model)
    return NAMED[name](model, known_rewards=known_rewards, **options)


def _uniform(model: TabularMDP) -> np.ndarray:
    try:
        return uniform_resets(layers_of(model))
    except SettingError:  # no layers: one law for all stages
        return np.full(model.S, 1.0 / model.S)
