"""Test set-up: array annotations are checked by beartype on a sample of the calls, torch uses one thread."""

from __future__ import annotations

import signal

import sampled_checks
from jaxtyping import install_import_hook

sampled_checks.install()
install_import_hook("polytheory", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile(
    "default", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every test checks the first calls of each function anew."""
    sampled_checks.begin_test()


@pytest.fixture
def listens():
    """A shell that runs the tests in the background hands down an ignored SIGINT, also to the processes they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
