"""Rewards of completions: functions of the user, called with columns by name and never trusted."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import ColumnError, PolytheoryError


@dataclass(frozen=True, eq=False)
class WeightedReward:
    """One reward of a completion: ``function(completions, **columns)`` returns a finite number for each; ``weight`` is its
    factor in the score; it is logged as ``reward/<name>``."""

    name: str
    function: Callable[..., Sequence[float]]
    weight: float = 1.0

    def check(self, columns: Sequence[str]) -> None:
        """Raise `ColumnError` unless the function can be called with these columns of the data set."""
        parameters = self._parameters()
        if not any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters) and "completions" not in {
            p.name for p in parameters
        }:
            raise ColumnError(
                f"reward {self.name!r} takes no completions; write def {self.name}(completions, **columns)"
            )
        for p in parameters:
            if (
                p.name == _completions(parameters)
                or p.default is not p.empty
                or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            ):
                continue
            if _COLUMN_OF.get(p.name, p.name) not in columns:
                raise ColumnError(
                    f"reward {self.name!r} needs the column {p.name!r}; the data set has {', '.join(columns)}: rename one"
                )

    def __call__(self, completions: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Scores [n] before weighting. Raises `ColumnError` for a wrong number of scores, one that is not finite, or a
        function that fails."""
        parameters = self._parameters()
        taken = _completions(parameters)
        known = {**columns, **{name: columns[of] for name, of in _COLUMN_OF.items() if of in columns}}
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            given = {name: x for name, x in columns.items() if name != taken}
        else:
            given = {}
        given |= {p.name: known[p.name] for p in parameters if p.name in known and p.name != taken}
        try:
            if taken == "completions":
                scores = self.function(completions=completions, **given)
            else:
                scores = self.function(completions, **given)
            found = np.asarray([np.nan if x is None else float(x) for x in scores])
        except PolytheoryError:
            raise
        except Exception as error:  # the user's own code
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise ColumnError(
                f"reward {self.name!r} raised {type(error).__name__}: {error} ({at.filename}, line {at.lineno}); it "
                "is called as f(completions, **columns) and returns a number for each completion"
            ) from error
        if found.shape != (len(completions),):
            raise ColumnError(
                f"reward {self.name!r} returned {len(found)} scores for {len(completions)} completions; one each is needed"
            )
        bad = np.flatnonzero(~np.isfinite(found))
        if bad.size:
            raise ColumnError(
                f"reward {self.name!r} gave {found[bad[0]]} for the completion {completions[bad[0]]!r}; every reward must be "
                "a finite number"
            )
        return found

    def _parameters(self) -> list[inspect.Parameter]:
        try:
            return list(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError) as error:  # some functions written in C
            raise ColumnError(
                f"reward {self.name!r} has no signature to read; wrap it in def {self.name}(completions, **columns)"
            ) from error


_COLUMN_OF = {"prompts": "prompt"}  # a parameter's name, and the column meant by those who write for TRL


def _completions(parameters: Sequence[inspect.Parameter]) -> str:
    """The parameter that takes the completions: the one of that name, else the first."""
    names = [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY]
    return "completions" if "completions" in names else parameters[0].name
