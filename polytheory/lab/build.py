"""From names and settings to an algorithm on an environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from polytheory.catalog import Entry
from polytheory.errors import SettingError, UnknownNameError, require

ROOMS = ("reference", "scaled")
CLASS = "one-ton"  # the policy class of learners that are given none


def algorithm_class(entry: Entry, name: str | None, room: str) -> type:
    """A method's algorithm by class name (default: its first) in one room.

    Raises `UnknownNameError` for a room or class that the method does not have, `SettingError` where one room lacks it.
    """
    if room not in ROOMS:
        raise UnknownNameError("room", room, ROOMS)
    name = name or entry.algorithms[0]
    if name not in entry.algorithms:
        raise UnknownNameError(f"algorithm of {entry.name}", name, entry.algorithms)
    if room == "scaled":
        require("torch", "scaled")
    module = import_module(f"polytheory.{room}.{entry.family}.{entry.stem}")
    if not hasattr(module, name):
        there = ", ".join(x for x in entry.algorithms if hasattr(module, x))
        raise SettingError(f"the {room} room has no {name}; it has {there}")
    return getattr(module, name)


def make_algorithm(cls: type, settings: Mapping[str, Any], model: Any) -> Any:
    """The algorithm with the given settings; where these have no default, ``policy`` is uniform at first,
    ``truncation`` the horizon and ``policies``, a name of a policy class, one-ton. ``offline`` is a file of episodes, or
    ``behaviour:episodes``, so many episodes of a named behaviour. Utilities of a model that pays vectors are of these.

    Raises `UnknownNameError` for a setting that the algorithm does not have, `SettingError` for a value of the wrong
    kind or a missing one.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    given = {}
    for name, value in settings.items():
        if name not in fields:
            raise UnknownNameError(f"setting of {cls.__name__}", name, fields)
        given[name] = _of_kind(name, value, fields[name].default)
    required = [name for name, f in fields.items() if _is_required(f) and name not in given]
    if "policy" in required:
        softmax = import_module(cls.__module__.rpartition(".")[0] + ".softmax").TabularSoftmax
        given["policy"] = softmax.zeros(model.S, model.A)
        required.remove("policy")
    if "policies" in fields and isinstance(given.get("policies", CLASS), str):
        given["policies"] = _policy_class(given.get("policies", CLASS), model)
        required = [name for name in required if name != "policies"]
    if "offline" in fields and given.get("offline") is not None:
        given["offline"] = _offline(str(given["offline"]), model)
    if "rewards" in fields and hasattr(model, "rewards") and given.get("representation") == "utility":
        given.setdefault("rewards", model.rewards)
    if "truncation" in required and model.horizon is not None:
        given["truncation"] = model.horizon
        required.remove("truncation")
    if required:
        raise SettingError(
            f"{cls.__name__} needs {required[0]}; give it with --set {required[0]}=... (in a study: settings)"
        )
    return cls(**given)


def make_model(name: str, options: Mapping[str, Any]) -> Any:
    """The named environment. Raises `UnknownNameError` for a name or option that does not exist."""
    from polytheory.models.registry import make

    return make(name, **environment_options(name, options))


def environment_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the kinds that the environment takes, without making it. Raises as `make_model` does."""
    from inspect import signature

    from polytheory.models.registry import maker

    known = signature(maker(name)).parameters
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UnknownNameError(f"option of {name}", unknown[0], known)
    return {key: _of_kind(key, value, known[key].default) for key, value in options.items()}


def policy_values(policy: Any, model: Any, replicas: int, room: str) -> list[float]:
    """Expected discounted return of each replica's policy from the start distribution, by exact evaluation.

    A policy with memory that offers ``mean_returns(model)`` evaluates itself.
    """
    if hasattr(policy, "mean_returns"):
        return policy.mean_returns(model)
    from polytheory.lab.exact import policy_tables
    from polytheory.policies import TabularPolicy
    from polytheory.reference.planning.planning import return_of

    tables = policy_tables(policy, model, replicas, torch=room == "scaled")
    return [return_of(model, TabularPolicy(x)) for x in tables]


def _policy_class(name: str, model: Any) -> Any:
    from polytheory.models.layered import layers_of
    from polytheory.policy_classes import make_class

    return make_class(name, layers_of(model))


def _offline(text: str, model: Any) -> Any:
    from polytheory.episodes import SUFFIXES, read_episodes

    if text.endswith(SUFFIXES):
        return read_episodes(text)
    from polytheory.reference.exploration.behaviours import SHARES, behaviour_episodes

    behaviour, _, number = text.partition(":")
    if not number.isdecimal():
        raise SettingError(
            f"offline = {text!r}; give a file that ends in {' or '.join(SUFFIXES)}, or behaviour:episodes such as "
            f"half-optimal:100 (behaviours: {', '.join(SHARES)})"
        )
    return behaviour_episodes(model, behaviour, int(number))


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _of_kind(name: str, value: Any, default: Any) -> Any:
    """The value as the kind of the default; text for a number, or the like, is refused. It checks no ranges."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    allowed = kinds.get(type(default))
    if allowed is None:
        return value
    wrong_bool = isinstance(value, bool) and bool not in allowed
    if wrong_bool or not isinstance(value, allowed):
        what = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[type(default)]
        raise SettingError(f"{name} = {value!r} must be {what}; its default is {default!r}")
    return float(value) if isinstance(default, float) else value
