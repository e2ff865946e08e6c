"""What is watched while a language model trains: held-out scores, the probe, and steps from which nothing can be learned.

All are watchers of `polytheory.run.run`; numbers that they return go to the history with the step's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polytheory.errors import NoSignalError, SettingError
from polytheory.history import FILE

WARN_AFTER = 5  # successive steps without signal


def every(steps: int, measure: Callable[[Any, Mapping[str, Any], int], Mapping[str, float]]) -> Callable[..., Any]:
    """A watcher that measures after every ``steps`` steps; 0 for never."""

    def watcher(state: Any, info: Mapping[str, Any], step: int) -> Mapping[str, float]:
        return measure(state, info, step) if steps and (step + 1) % steps == 0 else {}

    return watcher


def past(folder: Path | None, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(step, values) before step ``first`` of the run whose checkpoints lie in ``folder``."""
    path = None if folder is None else folder / FILE
    if path is None or not first or not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["step"] >= first:
                return
            yield row["step"], row["values"]


class Signal:
    """Warns once when no reward of several successive steps differs from those that it is compared with, and ends the run
    when that goes on.

    Args:
        patience: successive steps after which the run ends, >= 1; 0 for never.
        bundles: the method compares completions of several prompts, so that only equal rewards everywhere are no signal.
        folder: of the checkpoints, where the count before a resume is found.
        say: told the warning.

    Raises `SettingError` for a negative patience; `NoSignalError` when called.
    """

    def __init__(self, patience: int, *, bundles: bool, folder: Path | None, say: Callable[[str], None]):
        if patience < 0:
            raise SettingError(f"patience = {patience}; a number of steps, 0 for a run that never ends by itself")
        self.patience, self.bundles, self.folder, self.say = patience, bundles, folder, say
        self._silent: int | None = None  # steps in a row

    def __call__(self, state: Any, info: Mapping[str, Any], step: int) -> None:
        """Count."""
        if self._silent is None:
            self._silent = 0
            for _, values in past(self.folder, step):
                self._count(values)
        self._count(info)
        if self._silent == WARN_AFTER:
            self.say(f"steps {step - WARN_AFTER + 2} to {step + 1}: {self._why(info)}")
        if self.patience and self._silent >= self.patience:
            raise NoSignalError(f"{self._silent} steps in a row, up to step {step + 1}: {self._why(info)}")

    def _count(self, info: Mapping[str, Any]) -> None:
        equal = info["reward_std"] == 0 if self.bundles else info["frac_reward_zero_std"] == 1
        self._silent = (self._silent or 0) + 1 if equal else 0

    def _why(self, info: Mapping[str, Any]) -> str:
        return (
            f"all completions of a prompt score the same (mean score {float(info['reward']):.3g}), so there is nothing to "
            "learn from; if the task is solved, take fewer steps, else try easier prompts, a longer warm start (sft_steps), a "
            "higher temperature, a larger group_size, or a smaller step_size where the score fell"
        )
