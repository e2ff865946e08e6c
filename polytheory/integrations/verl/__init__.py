"""Our losses and advantages in verl's registries, so that verl's own trainer runs them on its cluster (verl 0.9).

Every process that imports verl must have them: the driver computes advantages, the workers losses. polytheory is a plugin
of verl (entry point ``verl.plugins``), which verl imports wherever it is imported itself; with
``VERL_USE_EXTERNAL_PLUGINS=none`` name the module in ``VERL_USE_EXTERNAL_MODULES``. Importing this module registers.

Names are ``polytheory_<name>``: ``algorithm.adv_estimator=polytheory_rloo``,
``actor_rollout_ref.actor.policy_loss.loss_mode=polytheory_cispo``; `table` lists them all with what verl cannot carry and
why. Settings go under ``+algorithm.polytheory``, and for losses under ``policy_loss.polytheory``, which verl's configuration
does not have: ``actor_rollout_ref.actor.policy_loss._target_=polytheory.integrations.verl.policy_loss_config``.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from polytheory.errors import UnknownNameError, require
from polytheory.integrations.parts import all_parts
from polytheory.integrations.verl.advantages import estimator
from polytheory.integrations.verl.carried import names
from polytheory.integrations.verl.carried import table as table
from polytheory.integrations.verl.losses import check_loss, policy_loss
from polytheory.parts import Kind


def register() -> None:
    """Put every loss and every advantage into verl's registries; a second call changes nothing.

    A part that verl cannot carry is there too, and raises `SettingError` with the reason when it is called. Raises
    `MissingExtraError` without verl.
    """
    core = require("verl.trainer.ppo.core_algos", "conform-verl")
    parts = all_parts()
    for name, part in names(Kind.LOSS).items():
        if name not in core.POLICY_LOSS_REGISTRY:
            core.register_policy_loss(name)(policy_loss(parts[part]))
    for name, part in names(Kind.ADVANTAGE).items():
        if name not in core.ADV_ESTIMATOR_REGISTRY:
            core.register_adv_est(name)(estimator(parts[part]))


def policy_loss_config(polytheory: Any = None, **settings: Any) -> Any:
    """verl's ``PolicyLossConfig`` with the settings of our loss in a field ``polytheory``; a ``_target_`` for verl's Hydra.

    What can be wrong with them without a batch is raised here, when the worker starts: `UnknownNameError`, `SettingError`.
    """
    workers = require("verl.workers.config", "conform-verl")
    register()
    config = workers.PolicyLossConfig(**settings)
    config.polytheory = dict(polytheory or {})  # verl's dataclasses take new attributes and freeze them
    name, known = config.loss_mode, names(Kind.LOSS)
    if name in known:
        check_loss(all_parts()[known[name]], "seq-mean-token-mean", {"policy_loss": {"polytheory": config.polytheory}})
    elif config.polytheory:
        raise UnknownNameError("loss of ours", name, known)
    return config


if importlib.util.find_spec("verl") is not None:
    register()
