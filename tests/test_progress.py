"""What a run shows: nothing by default when piped, plain lines when asked, a bar on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from polytheory import progress
from polytheory.progress import Progress


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def drive(clock, steps: int, seconds: float, total: int | None, show: bool | None) -> None:
    with Progress("Learner", total, show) as shown:
        for step in range(1, steps + 1):
            clock[0] += seconds
            shown.update(step)
        shown.finish(steps, "steps")


@pytest.mark.parametrize("show", [None, False])
def test_silent_when_piped(monkeypatch, clock, show):
    screen = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", screen)
    drive(clock, 100, 1.0, 100, show)
    assert screen.getvalue() == ""


def test_plain_lines_when_asked_are_few(monkeypatch, clock):
    screen = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", screen)
    drive(clock, 800, 1 / 32, 800, True)  # 25 seconds: lines at 10 and 20, and the last
    assert screen.getvalue().splitlines() == [
        "Learner: step 320/800, 10.0 s, about 15 s left",
        "Learner: step 640/800, 20.0 s, about 5 s left",
        "Learner: step 800/800, 25.0 s, ended: steps",
    ]


def test_a_short_run_draws_no_bar(monkeypatch, clock):
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    drive(clock, 10, 0.01, 10, None)
    assert screen.getvalue() == ""


def test_a_bar_on_a_terminal_and_gone_after_an_error(monkeypatch, clock):
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    drive(clock, 10, 1.0, None, None)
    assert "Learner" in screen.getvalue()
    shown = Progress("Learner", 10, None)

    def fail() -> None:
        with shown:
            clock[0] += 1.0
            shown.update(1)
            assert shown._bar[0].live.is_started
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not shown._bar[0].live.is_started
