"""Tracing a run: the same run, and beside it every quantity of some of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytheory.errors import SettingError
from polytheory.lab.tracing.quantities import Quantity
from polytheory.lab.tracing.recorder import Call, Recorder
from polytheory.lab.tracing.text import Teller
from polytheory.run import Run, Status, run

_WHY = {
    Status.DONE: "the result is certified", Status.STEPS: "the steps that were asked for are made",
    Status.INTERRUPTED: "interrupted", Status.EPISODES: "the episodes are used up", Status.CALLBACK: "stopped",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded steps of a run.

    Fields:
        title: algorithm, model and its sizes in words. steps: a `Call` of ``step`` for each recorded step.
        first: number of the first of them, from 1. sizes: of axes, by name. run: what the run left behind.
    """

    title: str
    steps: tuple[Call, ...]
    first: int
    sizes: Mapping[str, int]
    run: Run

    def find(self, part: str, step: int = 1) -> Call:
        """The first call of a part in the ``step``-th recorded step (from 1). Raises `SettingError` where there is none."""
        try:
            return self.steps[step - 1].find(part)
        except (IndexError, KeyError):
            there = sorted({c.part for call in self.steps for c in call.walk()})
            raise SettingError(f"no call of {part!r} in recorded step {step}; there are {', '.join(there)}") from None

    def text(self, state: int | None = None) -> str:
        """The steps in words and small tables; of tables over states only the rows of ``state``, where it is given.

        Raises `SettingError` for a state that the model does not have.
        """
        if state is not None and not 0 <= state < self.sizes.get("S", state + 1):
            raise SettingError(f"state = {state}; the states are 0 to {self.sizes['S'] - 1}")
        teller, lines = Teller(state, self.sizes), [self.title]
        for i, step in enumerate(self.steps):
            lines += (
                [""] + ([*teller.before(step), ""] if not i else []) + [f"step {self.first + i}"] + teller.step(step)
            )
        return "\n".join([*lines, "", f"ended after step {self.run.steps}: {_WHY[self.run.status]}"])

    def plain(self) -> list[dict[str, Any]]:
        """As data: for each step its number, the state before and after, what it reports, and its calls."""
        return [
            {
                "step": self.first + i, "before": _plain(call.arguments), "after": _plain(call.result, report=False),
                "reports": _plain(call.result, report=True), "calls": [c.plain() for c in call.calls],
            } for i, call in enumerate(self.steps)
        ]  # fmt: skip


def trace(algorithm: Any, access: Any, *, steps: int = 1, after: int = 0, seed: int = 0, replica: int = 0) -> Trace:
    """Run an algorithm of the reference as `run` does, and record every named part of some steps.

    Args:
        algorithm, access, seed, replica: as in `polytheory.run.run`; the run is the same as without recording.
        steps: how many steps to record, >= 1; fewer are recorded when the algorithm is done before.
        after: steps to make before the first recorded one, >= 0.

    Raises `SettingError` for values outside of these or an algorithm that is not of the reference, and the errors of `run`.
    """
    if steps < 1 or after < 0:
        raise SettingError(f"steps = {steps}, after = {after}; record at least 1 step, after 0 or more")
    kind = type(algorithm)
    if not kind.__module__.startswith("polytheory.reference."):
        raise SettingError(f"{kind.__name__} of {kind.__module__} is not of the reference; trace its version there")
    spec = access.spec
    sizes = {name: int(x) for name, x in (("S", spec.S), ("A", spec.A), ("H", spec.horizon)) if x is not None}
    recorder = Recorder(algorithm, sizes)
    recorder.wanted = after == 0

    def watch(state: Any, info: Any, step: int) -> None:
        recorder.wanted = step + 1 >= after

    with recorder.listening():
        end = run(algorithm, access, steps=after + steps, callbacks=[watch], seed=seed, replica=replica, progress=False)
    told = ", ".join(f"{name} = {x}" for name, x in sizes.items())
    title = f"{kind.__name__} on {spec.name or 'a world'} ({told}, gamma = {spec.gamma:g}), seed {seed}"
    return Trace(title, tuple(recorder.steps), after + 1, sizes, end)


def _plain(found: list[Quantity], report: bool | None = None) -> list[dict[str, Any]]:
    named = [(q, q.name.startswith("info.")) for q in found]
    return [
        q._replace(name=q.name.removeprefix("info.").removeprefix("state.")).plain()
        for q, reported in named if report is None or reported == report
    ]  # fmt: skip
