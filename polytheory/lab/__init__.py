"""The laboratory: what is run, compared and shown from all three rooms together.

`Study` and `collect` (of `polytheory.lab.sweeps`) and `trace` (of `polytheory.lab.tracing`) are looked up when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytheory.lab.sweeps import Study as Study
    from polytheory.lab.sweeps import collect as collect
    from polytheory.lab.tracing import trace as trace

_WHERE = {"Study": "sweeps", "collect": "sweeps", "trace": "tracing"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
