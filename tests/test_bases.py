"""A base class whose hook is not filled in cannot be made: the error comes when it is made, and names the hook."""

from __future__ import annotations

from importlib import import_module

import pytest

BASES = [
    ("policy_gradient.base", "PolicyGradient", "direction"),
    ("policy_gradient.softmax", "SoftmaxTable", "logits_of"),
    ("posttraining.composition", "Composition", "recipe"),
]


@pytest.mark.parametrize("room", ["reference", "scaled"])
@pytest.mark.parametrize(("module", "base", "hook"), BASES)
def test_a_hook_that_is_missing_is_named_at_once(room, module, base, hook):
    found = getattr(import_module(f"polytheory.{room}.{module}"), base)
    incomplete = type("Incomplete", (found,), {})
    with pytest.raises(TypeError, match=f"abstract class Incomplete.*{hook}"):
        incomplete.__new__(incomplete)
