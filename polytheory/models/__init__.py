"""What the world is: tabular, linear and block MDPs, named examples, readers of other formats.

Only `TabularMDP` is imported at once; the rest is looked up when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polytheory.models.registry import make as make
from polytheory.models.registry import names as names
from polytheory.models.tabular import GridLayout as GridLayout
from polytheory.models.tabular import RewardAtoms as RewardAtoms
from polytheory.models.tabular import SuccessorTable as SuccessorTable
from polytheory.models.tabular import TabularMDP as TabularMDP

if TYPE_CHECKING:
    from polytheory.models.block import BlockMDP as BlockMDP
    from polytheory.models.graph import communicating_classes as communicating_classes
    from polytheory.models.graph import diameter as diameter
    from polytheory.models.graph import hitting_times as hitting_times
    from polytheory.models.graph import reachable as reachable
    from polytheory.models.graph import to_networkx as to_networkx
    from polytheory.models.gymnasium_tables import from_gymnasium as from_gymnasium
    from polytheory.models.gymnasium_tables import read_gymnasium as read_gymnasium
    from polytheory.models.hardness import effective_horizon as effective_horizon
    from polytheory.models.hardness import minimum_gap as minimum_gap
    from polytheory.models.hardness import mixing_time as mixing_time
    from polytheory.models.hardness import stationary_distribution as stationary_distribution
    from polytheory.models.hardness import sum_reciprocal_gaps as sum_reciprocal_gaps
    from polytheory.models.linear import LinearMDP as LinearMDP
    from polytheory.models.mdptoolbox import from_mdptoolbox as from_mdptoolbox

_LAZY = {
    "block": ("BlockMDP",),
    "graph": ("communicating_classes", "diameter", "hitting_times", "reachable", "to_networkx"),
    "gymnasium_tables": ("from_gymnasium", "read_gymnasium"),
    "hardness": ("effective_horizon", "minimum_gap", "mixing_time", "stationary_distribution", "sum_reciprocal_gaps"),
    "linear": ("LinearMDP",),
    "mdptoolbox": ("from_mdptoolbox",),
}
_HOME = {name: module for module, exported in _LAZY.items() for name in exported}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
