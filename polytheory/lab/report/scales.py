"""From numbers to positions, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Number = float | int  # written out, because a whole number is no float to a strict checker of types
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end], linearly or by logarithm."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def at(self, x: Number) -> float:
        """Position of a value; values outside are moved to the nearer end."""
        low, high = self._map(self.low), self._map(self.high)
        share = (self._map(min(max(x, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within [low, high]: powers of ten on a logarithmic scale that spans at least one."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last - first >= 1:
                every = max(1, math.ceil((last - first + 1) / (wanted + 1)))
                return [10.0**k for k in range(first, last + 1, every)]
        step = (self.high - self.low) / wanted
        size = 10 ** math.floor(math.log10(step))
        step = next(s * size for s in STEPS if s * size >= step * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def _map(self, x: Number) -> float:
        return math.log10(x) if self.log else x


def fit(values: Iterable[Number | None], start: Number, end: Number, *, log: bool = False) -> Scale:
    """A scale over all values that can be shown (finite; positive when logarithmic), with a little room on a linear one."""
    shown = [x for x in values if x is not None and math.isfinite(x) and (x > 0 or not log)]
    low, high = (min(shown), max(shown)) if shown else ((1.0, 10.0) if log else (0.0, 1.0))
    if log:
        if high / low < 1.001:
            low, high = low / 2, high * 2
        return Scale(low, high, start, end, True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def label(x: Number) -> str:
    """A tick's number, short: 0.25, 2 000, 10⁻⁶."""
    if x == 0:
        return "0"
    power = math.floor(math.log10(abs(x)) + 1e-9)
    if -3 < power < 5:
        return f"{x:,.6g}".replace(",", "\u2009").replace("-", "\u2212")
    head = x / 10.0**power
    digits = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] if d.isdigit() else "⁻" for d in str(power))
    front = "" if abs(head - 1) < 1e-9 else f"{head:.3g}".replace("-", "\u2212") + "·"
    return f"{front}10{digits}"
