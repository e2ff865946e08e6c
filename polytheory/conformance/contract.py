"""What a function must look like to be checked: the batch it is given, what it returns, and how it refuses.

A candidate is a plain function ``f(batch: Batch, **settings) -> torch.Tensor``. Held against a loss it returns the scalar to
be minimised, differentiable in the batch's current columns; held against an estimator of advantages or of weights it returns
these, ``[n]`` or ``[n, t]``. It is called with every setting of what it is held against that its signature takes (all of
them with ``**settings``); what it does not take it has built in, and the check of values notices when it has not. If it has
a parameter ``counts`` it is given the `Counts` of the whole accumulated batch there, of which ``batch`` may be a part.

Needs torch (the ``scaled`` extra).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.errors import PolytheoryError, SettingError, UnknownNameError, require
from polytheory.reference.posttraining.base import Counts as Counts

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "scaled")


class Refused(PolytheoryError):
    """A candidate cannot map a setting, or a batch of this kind, to what it wraps; raise it instead of an approximation.

    A refusal is reported as such with its reason, one line; it is neither a pass nor a failure.
    """

    def __init__(self, reason: str):
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)


@dataclass(frozen=True, eq=False)
class Batch:
    """n completions of at most t tokens, right-padded. Numbers are float64 unless a check asks for less.

    Fields:
        log_probs: [n, t] natural log-probs of the tokens under the current policy; requires grad when a loss is checked.
        log_probs_old: [n, t] under the policy at the start of the optimisation phase, recomputed by the trainer.
        log_probs_ref: [n, t] under the frozen reference policy.
        log_probs_sampler: [n, t] as reported by the sampler that generated the tokens.
        mask: [n, t] True on trained tokens, False on padding and on tokens of a tool or environment. What lies under False
            means nothing and may be anything.
        advantages: [n], for some checks [n, t]; constants.
        score: [n] reward of the whole completion.
        values: [n, t] a critic's frozen values of the prefixes before each token.
        group: [n] int64 prompt id; completions of one prompt share it.
        pairs: [m, 2] int64 row indices of preference pairs, the chosen row first.
        max_length: longest completion that the sampler would have made, >= 1; it may exceed t.
        more: further columns of some methods by name, [n] or [n, t].
    """

    log_probs: Float[torch.Tensor, "n t"]
    log_probs_old: Float[torch.Tensor, "n t"]
    log_probs_ref: Float[torch.Tensor, "n t"]
    log_probs_sampler: Float[torch.Tensor, "n t"]
    mask: Bool[torch.Tensor, "n t"]
    advantages: Float[torch.Tensor, "n ..."]
    score: Float[torch.Tensor, " n"]
    values: Float[torch.Tensor, "n t"]
    group: Int[torch.Tensor, " n"]
    pairs: Int[torch.Tensor, "m 2"]
    max_length: int
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Trained tokens, sequences and pairs of this batch, as if it were not split."""
        return Counts(int(self.mask.sum()), int(self.mask.shape[0]), int(self.pairs.shape[0]))

    def columns(self) -> dict[str, torch.Tensor]:
        """Every tensor by name."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("max_length", "more")}
        return own | dict(self.more)

    def with_columns(self, columns: Mapping[str, torch.Tensor]) -> Batch:
        """This batch with some columns replaced."""
        own = {name: x for name, x in columns.items() if name not in self.more}
        more = {name: columns.get(name, x) for name, x in self.more.items()}
        return replace(self, **own, more=more)

    def fresh(self, now: tuple[str, ...] = ()) -> Batch:
        """A copy that shares no memory, with new leaves; the columns ``now`` require grad."""
        copies = {name: x.detach().clone() for name, x in self.columns().items()}
        for name in now:
            copies[name].requires_grad_(True)
        return self.with_columns(copies)

    def numpy(self) -> dict[str, np.ndarray]:
        """Every column as a NumPy array, numbers as float64."""
        arrays = {name: x.detach() for name, x in self.columns().items()}
        return {name: (x.double() if x.is_floating_point() else x).cpu().numpy() for name, x in arrays.items()}

    def lists(self) -> dict[str, Any]:
        """As nested lists and numbers, for JSON; `from_lists` is the way back."""
        return {name: x.detach().tolist() for name, x in self.columns().items()} | {"max_length": self.max_length}

    @classmethod
    def from_lists(cls, data: Mapping[str, Any]) -> Batch:
        """The batch that `lists` wrote (or a report shows). Raises `SettingError` where a column is missing."""
        kinds = {"mask": torch.bool, "group": torch.int64, "pairs": torch.int64}
        own = [f.name for f in fields(cls) if f.name not in ("max_length", "more")]
        missing = [name for name in (*own, "max_length") if name not in data]
        if missing:
            raise SettingError(f"a batch needs {missing[0]}; given: {', '.join(sorted(data))}")
        tensors = {
            name: torch.tensor(x, dtype=kinds.get(name, torch.float64))
            for name, x in data.items()
            if name != "max_length"
        }
        tensors["pairs"] = tensors["pairs"].reshape(-1, 2)
        more = {name: x for name, x in tensors.items() if name not in own}
        return cls(**{name: tensors[name] for name in own}, max_length=int(data["max_length"]), more=more)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A function and what it claims to be.

    Fields:
        name: what reports call it.
        function: ``f(batch, **settings) -> torch.Tensor``.
        against: name of the target, see `targets.names`.
        settings: of the target, by the target's names; those left out have the target's defaults.
        arguments: what the function is called with instead of the target's settings, by its own names, where these differ
            (an adapter's); None passes the settings themselves.
        deviations: ``{check: reason}`` for checks that are known to fail, and why that is so. Such a check must fail.
    """

    name: str
    function: Callable[..., Any]
    against: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    deviations: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] | None = None

    @property
    def takes_counts(self) -> bool:
        """True when the function has a parameter of its own called ``counts``."""
        return "counts" in _parameters(self.function)

    def call(self, batch: Batch, settings: Mapping[str, Any], counts: Counts | None = None) -> Any:
        """The function's answer under the target's full ``settings``; ``counts`` default to those of the batch."""
        given = dict(settings if self.arguments is None else self.arguments)
        known = _parameters(self.function)
        if self.arguments is None and not any(p.kind == p.VAR_KEYWORD for p in known.values()):
            given = {name: value for name, value in given.items() if name in known}
        if self.takes_counts:
            given["counts"] = counts or batch.counts
        return self.function(batch, **given)

    def check_signature(self, settings: Mapping[str, Any]) -> None:
        """Raise unless the function can be called with a batch and these settings.

        Raises `SettingError` for one that takes no batch, `UnknownNameError` for an argument that it does not have or
        needs without anybody giving it.
        """
        known = list(_parameters(self.function).values())
        given = settings if self.arguments is None else self.arguments
        positional = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        if not positional:
            raise SettingError(f"{self.name} takes no positional argument; it must be callable as f(batch, **settings)")
        for p in known:
            optional = p is positional[0] or p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            if not optional and p.name not in (*given, "counts"):
                what = f"required parameter of {self.name} (no setting of {self.against})"
                raise UnknownNameError(what, p.name, given)
            if p.kind == p.POSITIONAL_ONLY and not optional:
                raise SettingError(f"{self.name}: {p.name} is positional only; settings are passed by keyword")
        names = [p.name for p in known]
        for name in self.arguments or ():
            if name not in names and not any(p.kind == p.VAR_KEYWORD for p in known):
                raise UnknownNameError(f"argument of {self.name}", name, names[1:])


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise SettingError(f"{function!r} has no readable signature; wrap it in a def f(batch, **settings)") from error
