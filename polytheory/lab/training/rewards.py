"""Rewards by name: those that come along, and functions of the user."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Any

from polytheory.access.language import WeightedReward
from polytheory.errors import SettingError, UnknownNameError, require
from polytheory.lab.training.recipe import Problem

BUILT_IN = {
    "math": "polytheory.models.text.math_reward:math_reward",
    "think-format": "polytheory.models.text.math_reward:think_format",
    "exact-match": "polytheory.models.text.verifiers:exact_match",
    "in-place": "polytheory.models.text.verifiers:in_place",
}


def rewards(problem: Problem) -> tuple[WeightedReward, ...]:
    """The rewards of a recipe with their weights, under names that differ.

    Raises `SettingError` for a function that cannot be imported, one that stands there twice, or other numbers of weights
    than of rewards; `UnknownNameError` for a word that is neither a function nor a reward that comes along;
    `MissingExtraError` for a reward whose package is not installed.
    """
    weights = problem.reward_weights or (1.0,) * len(problem.reward)
    if len(weights) != len(problem.reward):
        raise SettingError(f"{len(weights)} reward_weights for {len(problem.reward)} rewards; give one each")
    if len(set(problem.reward)) != len(problem.reward):
        raise SettingError(
            f"reward = {', '.join(problem.reward)}: one stands there twice; weigh it with reward_weights"
        )
    short = [name.rpartition(":")[2] for name in problem.reward]
    labels = [
        x if short.count(x) == 1 else name.replace(":", ".") for x, name in zip(short, problem.reward, strict=True)
    ]
    return tuple(
        WeightedReward(label, function(name), float(w))
        for label, name, w in zip(labels, problem.reward, weights, strict=True)
    )


def function(name: str) -> Any:
    """The function behind ``module:function``, or a name of `BUILT_IN`; modules of the current folder count.

    Raises `SettingError`, `UnknownNameError`.
    """
    if name and ":" not in name:
        if name not in BUILT_IN:
            raise UnknownNameError("reward", name, (*BUILT_IN, "module:function"))
        if name == "math":
            require("math_verify", "math")  # now, and not after the warm start
        name = BUILT_IN[name]
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise SettingError(f"reward = {name!r}; write module:function, such as my_rewards:length")
    if module.endswith(".py"):
        raise SettingError(f"reward = {name!r}; write the module without .py: {module.removesuffix('.py')}:{attribute}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise SettingError(
            f"reward = {name!r}: cannot import {module} ({error}); run where {module.partition('.')[0]}.py stands"
        ) from error
    except Exception as error:  # the user's own module: whatever it does when imported
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise SettingError(
            f"reward = {name!r}: importing {module} raised {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})"
        ) from error
    if not callable(found):
        raise SettingError(f"reward = {name!r}: {module} has no function {attribute}")
    return found
