"""Test set-up: small work, one thread."""

import torch

torch.set_num_threads(1)
