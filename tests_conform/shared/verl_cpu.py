"""verl's training worker on a CPU: verl has no platform for it, so one is registered here, and FSDP2 runs over gloo.

verl's own code otherwise: configurations, FSDP engine, micro-batches, ``ppo_loss``, optimiser.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
import verl.plugin.platform.platform_manager as platforms
from verl.plugin.platform.platform_cuda import PlatformCUDA


class _Module:
    """What verl asks of ``torch.cuda``, of a machine without one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = {"mem_get_info": lambda *_: (0, 0), "get_device_name": lambda *_: "cpu"}
        return known.get(name) or getattr(torch.cpu, name, lambda *_, **__: 0)


class PlatformCPU(PlatformCUDA):
    """A CPU as a platform of verl."""

    device_name = "cpu"
    vendor_name = "none"
    device_module = _Module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return True

    def current_device(self) -> Any:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing runs ahead."""

    def empty_cache(self) -> None:
        """There is none."""

    def set_allocator_settings(self, settings: str) -> None:
        """There are none."""

    def communication_backend_name(self) -> str:
        return "gloo"


def start(port: int) -> None:
    """One process as a group of one."""
    os.environ.update(
        VERL_ENGINE_DEVICE="cuda",
        RANK="0",
        WORLD_SIZE="1",
        LOCAL_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    platforms.set_platform(PlatformCPU())
    torch.distributed.init_process_group("gloo")


def worker(path: str, actor: Any, *, lr: float, micro_batch: int) -> Any:
    """verl's TrainingWorker with the model under ``path`` and the loss of ``actor``: float32, plain gradient descent."""
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig
    from verl.workers.engine_workers import TrainingWorker
    from verl.workers.utils.losses import ppo_loss

    model = HFModelConfig(
        path=path, use_remove_padding=False, enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "eager"},
    )  # fmt: skip
    engine = FSDPEngineConfig(
        strategy="fsdp2", mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32"}, use_torch_compile=False,
        model_dtype="fp32", micro_batch_size_per_gpu=micro_batch, use_dynamic_bsz=False,
    )  # fmt: skip
    optimiser = FSDPOptimizerConfig(
        lr=lr, optimizer="SGD", optimizer_impl="torch.optim", total_training_steps=10, clip_grad=1e9,
        weight_decay=0.0, override_optimizer_config={},
    )  # fmt: skip
    made = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model", model_config=model, engine_config=engine, optimizer_config=optimiser,
            checkpoint_config=CheckpointConfig(), profiler_config=None,
        )
    )  # fmt: skip
    made.reset()
    made.set_loss_fn(partial(ppo_loss, config=actor))
    return made


def update(made: Any, data: Any, rows: int) -> dict[str, Any]:
    """One mini-batch of all rows, put together as verl's trainer does; the worker's metrics."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.padding import left_right_2_no_padding

    batch = left_right_2_no_padding(data.to_tensordict())
    tu.assign_non_tensor(
        batch, calculate_entropy=False, distillation_use_topk=False, distillation_only=False, global_batch_size=rows,
        mini_batch_size=rows, epochs=1, seed=1, dataloader_kwargs={"shuffle": False}, compute_loss=True,
    )  # fmt: skip
    return tu.get(made.train_mini_batch(batch), "metrics")


def weights(made: Any) -> dict[str, torch.Tensor]:
    """The model's weights, whole."""
    return {name: p.detach().full_tensor().clone() for name, p in made.engine.module.named_parameters()}
