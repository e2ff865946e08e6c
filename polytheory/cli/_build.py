"""From words on the command line to an algorithm on an access."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
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


def make_algorithm(cls: type, settings: Mapping[str, Any], model: Any) -> Any:
    """The algorithm with the given settings; where these have no default, ``policy`` is uniform at first,
    ``truncation`` the horizon and ``policies``, a name of a policy class, one-ton.

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
    if "truncation" in required and model.horizon is not None:
        given["truncation"] = model.horizon
        required.remove("truncation")
    if required:
        raise SettingError(f"{cls.__name__} needs {required[0]}; give it with --set {required[0]}=...")
    return cls(**given)


def make_model(name: str, options: Mapping[str, Any]) -> Any:
    """The named environment. Raises `UnknownNameError` for a name or option that does not exist."""
    from inspect import signature

    from polytheory.models.registry import make, maker

    known = signature(maker(name)).parameters
    typed = {key: _of_kind(key, value, known[key].default) if key in known else value for key, value in options.items()}
    return make(name, **typed)


def policy_values(policy: Any, model: Any, replicas: int, room: str) -> list[float]:
    """Expected discounted return of each replica's policy from the start distribution, by exact evaluation."""
    import numpy as np

    from polytheory.policies import TabularPolicy
    from polytheory.reference.planning.planning import return_of

    states = np.tile(np.arange(model.S), replicas)
    if room == "scaled":
        states = require("torch", "scaled").as_tensor(states)
    stages = [np.asarray(policy.probs(None, h, states)) for h in range(model.horizon or 1)]
    tables = np.stack(stages).reshape(len(stages), replicas, model.S, model.A)
    return [return_of(model, TabularPolicy(x if model.horizon else x[0])) for x in np.swapaxes(tables, 0, 1)]


def _policy_class(name: str, model: Any) -> Any:
    from polytheory.models.layered import layers_of
    from polytheory.policy_classes import make_class

    return make_class(name, layers_of(model))


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except ValueError:
        return text


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
