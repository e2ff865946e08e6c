"""Our advantages and losses in TRL's GRPOTrainer (TRL 1.16): `PolytheoryGRPOTrainer` and `table`."""

from __future__ import annotations

from typing import Any

from polytheory.integrations.trl.carried import table as table


def __getattr__(name: str) -> Any:
    if name == "PolytheoryGRPOTrainer":  # imports trl
        from polytheory.integrations.trl.trainer import PolytheoryGRPOTrainer

        return PolytheoryGRPOTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
