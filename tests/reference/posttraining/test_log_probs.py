"""Log-probs from hidden states: a case solved by hand, and what is refused. The scaled room's test compares all routes."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.errors import SettingError, ShapeError
from polytheory.reference.posttraining.log_probs import token_log_probs


def test_two_tokens_by_hand():
    """One hidden number x, logits (x/T, 0): p = sigmoid(x/T), d log p/dx = (1-p)/T, dH/dx = -x p (1-p) / T^2."""
    x, T = 0.8, 0.5
    p = 1 / (1 + np.exp(-x / T))
    head = np.array([[1.0], [0.0]])
    log_probs, entropies, pullback = token_log_probs(np.array([[x]]), head, np.array([0]), temperature=T)
    np.testing.assert_allclose(log_probs, [np.log(p)], rtol=1e-15 * 10)
    np.testing.assert_allclose(entropies, [-p * np.log(p) - (1 - p) * np.log(1 - p)], rtol=1e-15 * 10)
    one, none = np.ones(1), np.zeros(1)
    np.testing.assert_allclose(pullback(one, none)["hidden"], [[(1 - p) / T]], rtol=1e-15 * 10)
    np.testing.assert_allclose(pullback(none, one)["hidden"], [[-x * p * (1 - p) / T**2]], rtol=1e-15 * 100)
    np.testing.assert_allclose(pullback(one, none)["head"], [[x * (1 - p) / T], [-x * (1 - p) / T]], rtol=1e-15 * 10)
    np.testing.assert_allclose(pullback(one, none)["bias"], [(1 - p) / T, -(1 - p) / T], rtol=1e-15 * 10)


@pytest.mark.parametrize(
    ("temperature", "token", "text"), [(0.0, 0, "temperature"), (1.0, 11, "token 11"), (1.0, -1, "token -1")]
)
def test_bad_settings_are_one_line(temperature, token, text):
    with pytest.raises(SettingError, match=text) as found:
        token_log_probs(np.zeros((1, 2)), np.zeros((11, 2)), np.array([token]), temperature=temperature)
    assert "\n" not in str(found.value)


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match="need"):
        token_log_probs.__wrapped__(np.zeros((2, 2)), np.zeros((11, 2)), np.array([1]))
