"""Families of physical worlds from words on the command line, and what a policy earns in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESOLUTION, EPISODES = 5, 20  # of the grid of worlds on which a policy is shown


def make_worlds(name: str, options: Mapping[str, Any]) -> Any:
    """The named system on its default box, or with ``length=[0.5,2]`` and the like; ``gamma`` and ``truncation`` too.

    Raises `UnknownNameError` for a system or constant that does not exist, `SettingError` for values out of range.
    """
    from polytheory.access.worlds import Worlds
    from polytheory.errors import SettingError
    from polytheory.models.physics import physics

    more = {key: options[key] for key in ("gamma", "truncation") if key in options}
    for key, kinds in (("gamma", (int, float)), ("truncation", (int,))):
        if key in more and (isinstance(more[key], bool) or not isinstance(more[key], kinds)):
            raise SettingError(f"{key} = {more[key]!r}; it must be a number")
    return Worlds(physics(name, **{k: x for k, x in options.items() if k not in more}), **more)


def facts_of(end: Any, worlds: Any) -> dict[str, Any]:
    """Mean undiscounted returns [m] of a run's policy on a grid over the box, and where a search went."""
    from polytheory.access import Key
    from polytheory.scaled.robust.deep_adversary import grid_points
    from polytheory.scaled.robust.deep_iwocs import in_box

    points = in_box(worlds, grid_points(RESOLUTION, len(worlds.nominal)))
    value = worlds.returns(end.policy, points, Key(1000, "shown", 0), EPISODES, gamma=1.0).mean(-1)
    state = end.state
    searched = {"ended": state.status, "worlds": state.worlds.tolist()} if hasattr(state, "worlds") else {}
    return {**searched, "worst": float(value.min()), "value": value}
