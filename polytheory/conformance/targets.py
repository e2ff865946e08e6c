"""What a candidate can be held against: the project's losses and estimators, by name, as the reference room computes them.

The oracle is NumPy in float64 with gradients in closed form: another route than a candidate's torch and autograd. A new
method enters the table at the end of this file by one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from polytheory.conformance.contract import Batch, Candidate
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Part, Unit
from polytheory.reference.posttraining.base import PARTS, Counts, weights
from polytheory.reference.posttraining.composition import Use, evaluate

LOSS, COLUMN = "loss", "column"
CORRECTIONS = {"none": None, "truncate": "truncated_is", "mask": "masked_is"}
_HOME = "polytheory.reference.posttraining."

Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Expected:
    """What the formula says.

    Fields:
        value: the loss [], or the column [n] or [n, t].
        gradient: of the loss in each current column.
        scale: size of the numbers that go into it: rounding with relative precision u moves any entry of an answer by less
            than ``u * scale`` (see `Target.scale`).
    """

    value: np.ndarray
    gradient: dict[str, np.ndarray]
    scale: float


@dataclass(frozen=True, eq=False)
class Target:
    """One thing to be held against.

    Fields:
        name: of the target.
        kind: "loss" (a scalar to be minimised) or "column" (advantages, weights or scores).
        defaults: every setting with its default.
        recipe: from full settings to the parts that compute it, in order.
        column: what a column target computes.
        stiffness: from columns and settings to how much larger than its inputs an answer may be (condition), default 1.
        token_advantages: advantages [n, t] are part of the definition.
        source: paper and equation.
    """

    name: str
    kind: str
    defaults: Settings
    recipe: Callable[[Settings], tuple[Use, ...]]
    source: str
    column: str = ""
    stiffness: Callable[[dict[str, np.ndarray], Settings], float] = lambda columns, settings: 1.0
    token_advantages: bool = False

    def full(self, settings: Settings) -> dict[str, Any]:
        """The settings with the defaults filled in.

        Raises `UnknownNameError` for one that the target does not have, `SettingError` or `UnknownNameError` for a value out
        of range.
        """
        for name in settings:
            if name not in self.defaults:
                raise UnknownNameError(f"setting of {self.name}", name, self.defaults)
        full = {**self.defaults, **settings}
        _try(self, full)
        return full

    def parts(self, settings: Settings) -> tuple[Part, ...]:
        """The parts under full settings."""
        return tuple(PARTS[use.part] for use in self.recipe(settings))

    def reads(self, settings: Settings) -> frozenset[str]:
        """Columns of the batch that the formula reads under full settings."""
        written = {name for part in self.parts(settings)[:-1] for name in part.writes}
        return frozenset(name for part in self.parts(settings) for name in part.reads) - written

    def now(self, settings: Settings) -> tuple[str, ...]:
        """Columns that the loss is differentiated in; none for a column target."""
        return tuple(sorted({name for part in self.parts(settings) for name in part.now}))

    def unit(self, settings: Settings) -> Unit:
        """What the terms speak of; of the first loss, or of the column."""
        return next((part.unit for part in self.parts(settings) if part.now), self.parts(settings)[-1].unit)

    def expected(self, batch: Batch, settings: Settings, counts: Counts | None = None) -> Expected:
        """The formula's answer; ``counts`` of the accumulated batch when ``batch`` is a part of it.

        Raises the errors of the parts, such as `ColumnError` for a group of one.
        """
        columns, uses = batch.numpy(), self.recipe(settings)
        scale = self.scale(columns, settings, counts or batch.counts, batch.max_length)
        for use in uses:
            part = PARTS[use.part]
            if part.writes:
                own = {"max_length": batch.max_length} if use.part == "overlong_shaping" else {}
                columns = part(columns, **use.settings, **own)
        if self.kind == COLUMN:
            return Expected(np.asarray(columns[self.column]), {}, scale)
        average = {"normalisation": settings.get("normalisation", "token_sum"), "max_length": batch.max_length}
        value, gradient = evaluate(columns, uses, counts=counts, **average)
        return Expected(np.asarray(value), gradient, scale)

    def scale(self, columns: dict[str, np.ndarray], settings: Settings, counts: Counts, max_length: int) -> float:
        """An upper bound on the numbers that any sensible way to the answer adds up, times how often each is rounded.

        A log-prob of size |l| is off by u |l|, so exponents are off by u times the sum ``size`` of these over a row, and
        exponentials, at most ``exp(gap)``, by that much relatively. They are multiplied by advantages or scores, added over
        the tokens and rows with their weights, and divided as the target's ``stiffness`` tells. First order in u; a factor
        16 covers the roundings of the operations themselves.
        """
        mask = columns["mask"]
        l = {name: np.where(mask, x, 0.0) for name, x in columns.items() if name.startswith("log_probs")}
        size = sum(float(np.abs(x).sum(axis=1).max(initial=0.0)) for x in l.values())
        gaps = [l["log_probs"] - x for x in l.values()] + [l["log_probs_old"] - l["log_probs_sampler"]]
        whole = self.unit(settings) != Unit.TOKEN or settings.get("unit", settings.get("correction_unit")) == "sequence"
        gap = max(float(np.abs(x.sum(axis=1) if whole else x).max(initial=0.0)) for x in gaps)
        big = 1 + sum(_largest(columns[name], mask) for name in ("advantages", "score", "values"))
        n, t = mask.shape
        total = float(n + t)
        if self.kind == LOSS:
            average = {"normalisation": settings.get("normalisation", "token_sum"), "max_length": max_length}
            total = float(weights(mask, self.unit(settings), counts, **average).sum())
        growth = (
            np.exp(min(2 * gap, 40.0)) * (1 + gap) if self.kind == LOSS or self.column == "sampler_weights" else 1.0
        )
        return 16 * total * big * (1 + size) * growth * self.stiffness(columns, settings)


def target(name: str) -> Target:
    """The target of that name. Raises `UnknownNameError` with a suggestion."""
    if name not in TARGETS:
        raise UnknownNameError("target", name, TARGETS)
    return TARGETS[name]


def names() -> tuple[str, ...]:
    """Names of all targets."""
    return tuple(TARGETS)


def of(candidate: Candidate) -> tuple[Target, dict[str, Any]]:
    """A candidate's target and its full settings, both checked, and the candidate's signature with them."""
    found = target(candidate.against)
    settings = found.full(candidate.settings)
    candidate.check_signature(settings)
    return found, settings


def _try(target: Target, settings: Settings) -> None:
    """Let the parts refuse settings that are out of range, on two rows of one token."""
    import torch

    z, number = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    row, mask = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.ones(2, 1, dtype=torch.bool)
    more = {name: row for name in target.reads(settings) if name not in Batch.__dataclass_fields__}
    pairs = torch.tensor([[1, 0]])
    try:
        target.expected(Batch(z, z, z, z, mask, row, row, z, number, pairs, 8, more), settings)
    except (TypeError, AttributeError) as error:
        raise SettingError(f"{target.name} cannot use these settings: {error}") from error


def _largest(x: np.ndarray, mask: np.ndarray) -> float:
    return float(np.abs(np.where(mask, x, 0.0) if x.ndim == 2 else x).max(initial=0.0))


def _part(name: str, module: str, **changed: Any) -> tuple[Part, dict[str, Any]]:
    """A part of the reference and its settings with their defaults, some changed."""
    import_module(_HOME + module)
    keywords = inspect.signature(PARTS[name].function).parameters.values()
    defaults = {p.name: p.default for p in keywords if p.kind == p.KEYWORD_ONLY and p.name != "max_length"}
    return PARTS[name], {**defaults, **changed}


def loss(name: str, module: str, *, stiffness: Any = None, token_advantages: bool = False, **changed: Any) -> Target:
    """A registered loss as a target: its settings, and how it is averaged where its terms are of tokens."""
    part, own = _part(name, module, **changed)
    average = {"normalisation": "seq_mean"} if part.unit == Unit.TOKEN else {}

    def recipe(settings: Settings) -> tuple[Use, ...]:
        return (Use(name, {k: settings[k] for k in own}),)

    more = {} if stiffness is None else {"stiffness": stiffness}
    return Target(name, LOSS, {**own, **average}, recipe, part.source, token_advantages=token_advantages, **more)


def column(
    name: str, module: str, *, part: str = "", writes: str = "advantages", stiffness: Any = None, **changed: Any
) -> Target:
    """A registered part that writes a column as a target."""
    found, own = _part(part or name, module, **changed)

    def recipe(settings: Settings) -> tuple[Use, ...]:
        return (Use(found.name, dict(settings)),)

    more = {} if stiffness is None else {"stiffness": stiffness}
    return Target(name, COLUMN, own, recipe, found.source, column=writes, **more)


def surrogate(name: str, source: str, **changed: Any) -> Target:
    """The clipped surrogate with given advantages, a KL loss and a correction of the sampler's mismatch."""
    _, clip = _part("ppo_clip", "losses")
    for module in ("kl", "corrections"):
        import_module(_HOME + module)
    own = {
        **clip, "beta": 0.04, "kl": "k3", "normalisation": "seq_mean", "correction": "none", "correction_unit": "token",
        "cap": 2.0, **changed,
    }  # fmt: skip

    def recipe(settings: Settings) -> tuple[Use, ...]:
        if settings["correction"] not in CORRECTIONS:
            raise UnknownNameError("correction", settings["correction"], CORRECTIONS)
        if not settings["beta"] >= 0:
            raise SettingError(f"beta = {settings['beta']}; a KL coefficient is >= 0, the paper takes 0.04")
        correction = CORRECTIONS[settings["correction"]]
        before = (Use(correction, {"cap": settings["cap"], "unit": settings["correction_unit"]}),) if correction else ()
        after = (Use(f"kl_{settings['kl']}", weight=settings["beta"]),) if settings["beta"] else ()
        return (*before, Use("ppo_clip", {k: settings[k] for k in clip}), *after)

    return Target(name, LOSS, own, recipe, source, stiffness=lambda columns, settings: 1 + settings["beta"])


def _spread(columns: dict[str, np.ndarray], settings: Settings) -> float:
    """Scores are divided by the smallest deviation of a group, and once more through the mean's rounding."""
    score, group = columns["score"], columns["group"]
    groups = [score[group == g] for g in np.unique(group)] if settings["scale"] == "group" else [score]
    deviations = [float(x.std()) + settings["eps"] for x in groups if settings["scale"] != "none"]
    smallest = min((x for x in deviations if x > 0), default=1.0)
    return (1 + float(np.sqrt(len(score)))) / smallest


TARGETS: dict[str, Target] = {
    found.name: found
    for found in (
        loss("reinforce", "losses", token_advantages=True),
        loss("ppo_clip", "losses", token_advantages=True),
        surrogate("grpo", "shao2024, eq. 3"),
        surrogate("dr_grpo", "liu2025", beta=0.0, normalisation="constant"),
        surrogate("dapo", "yu2025, eq. 8", beta=0.0, eps_high=0.28, normalisation="token_mean"),
        loss("gspo", "losses"),
        loss("cispo", "losses", token_advantages=True),
        loss("kl_k1", "kl"),
        loss("kl_k2", "kl"),
        loss("kl_k3", "kl"),
        loss("kl_rho_k3", "kl"),
        loss("dpo", "pairs", stiffness=lambda columns, settings: 1 + settings["beta"]),
        loss("ipo", "pairs", stiffness=lambda columns, settings: (1 + 1 / settings["tau"]) ** 2),
        loss("rpo", "rpo", stiffness=lambda columns, settings: 1 + settings["beta"] + settings["eta"]),
        loss("copg", "copg", stiffness=lambda columns, settings: (1 + settings["beta"] + 1 / settings["beta"]) ** 2),
        column("group_advantages", "advantages", stiffness=_spread),
        column("rloo", "advantages", part="rloo_advantages"),
        column("reinforce_advantages", "advantages"),
        column("gae", "advantages", part="gae_advantages"),
        column("kl_in_reward", "kl", stiffness=lambda columns, settings: 1 + settings["beta"]),
        column("kl_in_score", "kl", writes="score", stiffness=lambda columns, settings: 1 + settings["beta"]),
        column("overlong_shaping", "rewards", writes="score", buffer=1),
        column("truncated_is", "corrections", writes="sampler_weights"),
        column("masked_is", "corrections", writes="sampler_weights"),
    )
}
