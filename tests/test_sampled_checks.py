"""A wrong array is found in the first calls of a test, and in one of the later ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from sampled_checks import EVERY, FIRST, begin_test, sampled

GOOD, BAD = np.zeros(2), np.zeros((2, 2))
check = sampled(typechecker=beartype)


@check
def doubled(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return 2 * x


@check
@dataclass
class Held:
    x: Float[np.ndarray, " n"]


@pytest.mark.parametrize("made", [doubled, Held])
def test_the_first_calls_of_a_test_and_then_one_in_so_many(made):
    begin_test()
    refused = []
    for i in range(1, 2 * EVERY + 1):
        try:
            made(BAD)
        except TypeCheckError:
            refused.append(i)
    assert refused == [*range(1, FIRST + 1), EVERY, 2 * EVERY]
    begin_test()
    with pytest.raises(TypeCheckError):
        made(BAD)


def test_a_function_inside_another_is_counted_with_its_kin():
    begin_test()

    def outer():
        @check
        def inner(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
            return x

        return inner

    refused = 0
    for _ in range(FIRST + 3):
        try:
            outer()(BAD)
        except TypeCheckError:
            refused += 1
    assert refused == FIRST


def test_the_library_is_checked():
    from polytheory.streams import uniforms

    with pytest.raises(TypeCheckError, match="uniforms"):
        uniforms(0, "a", 0, np.zeros((2, 2), dtype=np.int64), 1)
