"""Test set-up: small work, one thread."""

import pytest
import torch

torch.set_num_threads(1)

pytest.register_assert_rewrite("trl_runs")
