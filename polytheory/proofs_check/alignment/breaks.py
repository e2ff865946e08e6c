"""Deliberate errors that the claims of this family must reject."""

from __future__ import annotations

from typing import Any

from polytheory.proofs_check.claims import Wrap


def times(factor: float) -> Any:
    """Multiply what a part returns."""
    return lambda f: lambda *a, **k: factor * f(*a, **k)


def slipped(f: Any) -> Any:
    """A discount that is a little off in one place."""
    return lambda *a, gamma, **k: f(*a, gamma=0.9 * gamma + 0.05, **k)


def normalised(f: Any) -> Any:
    """The occupancy that sums to one where visits are meant."""
    return lambda *a, gamma, **k: (1 - gamma) * f(*a, gamma=gamma, **k) if gamma else 0.5 * f(*a, gamma=gamma, **k)


FLIPPED = Wrap("sign_flipped", part="log_policy_sensitivity", by=times(-1.0))
NO_TEMPERATURE = Wrap(
    "temperature_dropped", part="log_policy_sensitivity", by=lambda f: lambda A_f, tau: f(A_f, tau) * tau
)
OCCUPANCY = Wrap("occupancy_for_visits", part="visits", by=normalised)
DISCOUNT_SLIP = Wrap("discount_slip", part="feature_advantages", by=slipped)
NO_ENTROPY = Wrap("entropy_halved", part="with_entropy", by=lambda f: lambda r, log_pi, tau: f(r, log_pi, tau / 2))
NO_OUTER = Wrap("outer_product_omitted", part="outer_part", by=times(0.0))
FLIPPED_OUTER = Wrap("outer_product_flipped", part="outer_part", by=times(-1.0))
NO_CURVED = Wrap("curvature_omitted", part="curved_part", by=times(0.0))
NO_ENTROPY_PART = Wrap("entropy_part_omitted", part="entropy_part", by=times(0.0))
NO_DISCOUNT = Wrap("discount_dropped", part="present_value", by=lambda f: lambda x, gamma: f(x, 1.0))
ONLY_OWN_STEP = Wrap("later_steps_forgotten", part="later", by=lambda f: lambda x: x)
