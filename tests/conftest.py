"""Test set-up: array annotations are checked by beartype, torch uses one thread."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook("polytheory", "beartype.beartype")

import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile(
    "default", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")
