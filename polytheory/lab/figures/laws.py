"""A measured law as a curve: the data with their band, the fitted line, and the theorem's slope beside them."""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float
from polytheory.lab.estimates.exponents import Exponent
from polytheory.lab.records import Series

BESIDE = (
    1.6  # the theorem's line is drawn this factor above the data, so that slopes can be compared without covering them
)


def data(
    label: str,
    x: Float[np.ndarray, " k"],
    y: Float[np.ndarray, " k"],
    low: Float[np.ndarray, " k"] | None = None,
    high: Float[np.ndarray, " k"] | None = None,
) -> Series:
    """Measured points; what is not finite is left out of the drawing."""
    at = [float(v) for v in x]
    return (
        Series(label, at, _plain(y))
        if low is None or high is None
        else Series(label, at, _plain(y), _plain(low), _plain(high))
    )


def theorem(found: Exponent, label: str = "") -> Series | None:
    """The stated law through a point above the last one of the fit; None where nothing was stated."""
    if found.stated is None:
        return None
    low, high = sorted((found.start, found.stop))
    x = np.geomspace(low, high, 2) if found.law == "power" else np.array([low, high])
    end = np.array([found.stop])
    rate = np.log(x / found.stop) if found.law == "power" else x - found.stop
    y = BESIDE * found.at(end)[0] * np.exp(found.stated * rate)
    return Series(label or f"theorem: {found.term(found.stated)}", x.tolist(), [float(v) for v in y], dashed=True)


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
