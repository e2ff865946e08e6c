"""Named environments: ``make("frozenlake", gamma=0.99)``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.tabular import TabularMDP

# name -> (module, function); imported when asked for
_MAKERS = {
    "two-state": ("two_state", "two_state"),
    "two-state-misspecified": ("two_state", "two_state_misspecified"),
    "puterman": ("two_state", "puterman"),
    "three-state": ("three_state", "three_state"),
    "forest": ("classics", "forest"),
    "gambler": ("classics", "gambler"),
    "riverswim": ("chains", "riverswim"),
    "chain": ("chains", "chain"),
    "combination-lock": ("chains", "combination_lock"),
    "baited-lock": ("exploration_problems", "baited_lock"),
    "deep-sea": ("exploration_problems", "deep_sea"),
    "ring": ("chains", "ring"),
    "river": ("chains", "river"),
    "gridworld": ("grids", "gridworld"),
    "windy-gridworld": ("grids", "windy_gridworld"),
    "windy-walk": ("windy_walk", "windy_walk"),
    "garnet": ("random_models", "garnet"),
    "random-linear": ("random_models", "random_linear"),
    "simulated-linear": ("robust_problems", "simulated_linear"),
    "american-put": ("robust_problems", "american_put"),
    "wager": ("risk_problems", "wager"),
    "long-shot": ("risk_problems", "long_shot"),
    "two-needs": ("risk_problems", "two_needs"),
    "toll-road": ("risk_problems", "toll_road"),
    "token-mdp": ("token_mdp", "token_mdp"),
    "layered-two-state": ("agnostic", "layered_two_state"),
    "psdp-trap": ("agnostic", "psdp_trap"),
    "error-amplification": ("agnostic", "error_amplification"),
    "block-two-state": ("agnostic", "block_two_state"),
    "frozenlake": ("gymnasium_tables", "frozenlake"),
    "taxi": ("gymnasium_tables", "taxi"),
    "cliffwalking": ("gymnasium_tables", "cliffwalking"),
}


def names() -> tuple[str, ...]:
    """Names that `make` knows."""
    return tuple(_MAKERS)


def maker(name: str) -> Callable[..., Any]:
    """The function behind a name. Raises `UnknownNameError` with the nearest name."""
    if name not in _MAKERS:
        raise UnknownNameError("environment", name, _MAKERS)
    module, function = _MAKERS[name]
    return getattr(importlib.import_module(f"polytheory.models.{module}"), function)


def make(name: str, **options: Any) -> TabularMDP:
    """Make a named environment as a `TabularMDP`.

    Raises:
        UnknownNameError: no environment of that name. SettingError: it does not take one of the options.
    """
    function = maker(name)
    allowed = list(inspect.signature(function).parameters)
    unknown = [key for key in options if key not in allowed]
    if unknown:
        raise SettingError(
            f"environment {name!r} takes no option {unknown[0]!r}; allowed: {', '.join(allowed) or 'none'}"
        )
    made = function(**options)
    return made if isinstance(made, TabularMDP) else made.to_tabular()
