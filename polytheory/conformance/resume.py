"""The check that a resumed run is the run that was never stopped, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from polytheory._trees import pack, same_bits
from polytheory.run import Run, run


def assert_resume_exact(
    make_algorithm: Callable[[], Any], make_access: Callable[[], Any], steps: int, *, seed: int = 0
) -> Run:
    """Run ``2 * steps`` at once; then ``steps``, save, load into fresh objects, ``steps`` more; compare every bit.

    State, meter and the rest of the access, history and status must be equal. Anything that a method keeps outside its
    state (a generator, a cache, an attribute that is not a field) shows up as a difference.

    Args:
        make_algorithm: makes a fresh algorithm object; called for each part, as a new process would.
        make_access: makes a fresh access.
        steps: length of each half, >= 1. Make it long enough that the method's containers grow.
        seed: seed of the runs.

    Returns the uninterrupted run. Raises `AssertionError` naming the first entry that differs.
    """
    whole_access, access = make_access(), make_access()
    whole = run(make_algorithm(), whole_access, steps=2 * steps, seed=seed, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"seed": seed, "checkpoint": folder, "progress": False}
        run(make_algorithm(), make_access(), steps=steps, **options)
        resumed = run(make_algorithm(), access, steps=2 * steps, resume=True, **options)
    for name, a, b in (("state", whole.state, resumed.state), ("access", whole_access, access)):
        difference = same_bits(pack(a, name=name), pack(b, name=name))
        if difference:
            raise AssertionError(f"after a resume at step {steps} of {2 * steps}, the {name} differs at {difference}")
    for x, y in zip(_lines(whole), _lines(resumed), strict=False):
        if x != y:
            raise AssertionError(f"after a resume at step {steps} of {2 * steps}, the history differs: {x} against {y}")
    if (whole.status, whole.steps) != (resumed.status, resumed.steps) or len(_lines(whole)) != len(_lines(resumed)):
        raise AssertionError(
            f"the whole run ended with {whole.status} at step {whole.steps}, "
            f"the resumed one with {resumed.status} at step {resumed.steps}"
        )
    return whole


def _lines(a: Run) -> list[str]:
    return [f"step {s}, replica {i}, {name} = {value!r}" for s, i, name, value in a.history.rows()]
