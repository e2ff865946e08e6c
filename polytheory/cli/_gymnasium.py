"""Gymnasium environments from words on the command line: ``--env gymnasium:CartPole-v1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX, GAMMA = "gymnasium:", 0.99
OWN: dict[str, tuple[type, ...]] = {"n_envs": (int,), "gamma": (int, float), "horizon": (int,), "reward_range": (list,)}


def is_gymnasium(env: str, cls: type) -> bool:
    """Whether the words name an environment of Gymnasium.

    Raises `SettingError` for an algorithm that plays tables only.
    """
    from polytheory.errors import SettingError

    if not env.startswith(PREFIX):
        return False
    if not getattr(cls, "observes", False):
        raise SettingError(f"{cls.__name__} plays models whose states can be counted, not {env}; see `polytheory list`")
    return True


def make_envs(env: str, options: Mapping[str, Any]) -> Any:
    """The environments; ``n_envs``, ``gamma``, ``horizon``, ``reward_range`` are ours, other options Gymnasium's.

    Raises `UnknownNameError` for an environment that does not exist, `SettingError` for options of the wrong kind.
    """
    from polytheory.access.gymnasium import VectorEnvs
    from polytheory.errors import SettingError

    for key, kinds in OWN.items():
        if key in options and (isinstance(options[key], bool) or not isinstance(options[key], kinds)):
            what = (
                "two numbers such as [-1,0]" if kinds == (list,) else "a number" if float in kinds else "a whole number"
            )
            raise SettingError(f"{key} = {options[key]!r}; it must be {what}")
    given: dict[str, Any] = {**options, "gamma": float(options.get("gamma", GAMMA))}
    if "reward_range" in given:
        if len(given["reward_range"]) != 2:
            raise SettingError(f"reward_range = {given['reward_range']}; it must be two numbers such as [-1,0]")
        given["reward_range"] = tuple(float(x) for x in given["reward_range"])
    return VectorEnvs(env.removeprefix(PREFIX), **given)
