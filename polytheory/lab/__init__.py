"""The laboratory: what is run, compared and shown from all three rooms together.

`Study` and `collect` (of `polytheory.lab.sweeps`) are looked up when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytheory.lab.sweeps import Study as Study
    from polytheory.lab.sweeps import collect as collect


def __getattr__(name: str) -> Any:
    if name not in ("Study", "collect"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from polytheory.lab import sweeps

    return getattr(sweeps, name)
