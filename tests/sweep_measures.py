"""Measures of a test's own, named as module:function in a study; some do harm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np


def visits(look):
    """Number of state-action-stage triples met so far."""
    return (look.field("n") > 0).reshape(look.replicas, -1).sum(-1).astype(float)


def zeros(look):
    """Harmless."""
    return np.zeros(look.replicas)


def fails_at_three(look):
    """Fails for the seed 3."""
    if 3 in np.atleast_1d(look.state.replica):
        raise FloatingPointError("seed three\nis cursed")
    return np.zeros(look.replicas)


def dies_at_three(look):
    """Takes its process along for the seed 3."""
    if 3 in np.atleast_1d(look.state.replica):
        os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros(look.replicas)


def exits_at_three(look):
    """Ends its process for the seed 3, every time."""
    if 3 in np.atleast_1d(look.state.replica):
        os._exit(7)
    return np.zeros(look.replicas)


def exits_once_at_two(look):
    """Ends its process for the seed 2, the first time."""
    flag = Path(os.environ["SWEEP_FLAG"])
    if 2 in np.atleast_1d(look.state.replica) and not flag.exists():
        flag.touch()
        os._exit(7)
    return np.zeros(look.replicas)


def stops_at_three(look):
    """Ctrl-C in the middle of seed 3, the first time."""
    flag = Path(os.environ["SWEEP_FLAG"])
    if 3 in np.atleast_1d(look.state.replica) and look.state.t == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGINT)
    return np.zeros(look.replicas)
