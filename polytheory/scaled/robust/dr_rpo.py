"""DR-RPO for n replicas in lock-step; the method, what is known of its source, and its guarantee stand in the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.exploration.robust import DrRpoSettings
from polytheory.models.factor_ambiguity import check_fail_state, factor_features, radii_of, reference_of
from polytheory.scaled.exploration.actors import StagedPolicy, mirror_step
from polytheory.scaled.exploration.critics import Seen, gram
from polytheory.scaled.exploration.episodic import EpisodicLearner, EpisodicState, Many, check_spec
from polytheory.scaled.robust.factor_duals import factor_values as factor_values
from polytheory.scaled.robust.mixtures import worst_mixture as worst_mixture


def soft_value(q: Float[torch.Tensor, "*k A"], log_ref: Float[torch.Tensor, "*r A"], eta: float):
    """``eta log E_ref exp(q / eta)``; eta = 0 is the maximum of q."""
    return q.amax(-1) if eta == 0 else eta * torch.logsumexp(log_ref + q / eta, -1)


def soft_policy(q: Float[torch.Tensor, "*k A"], log_ref: Float[torch.Tensor, "*r A"], eta: float):
    """The policy that attains `soft_value`; the first of the best actions for eta = 0."""
    if eta == 0:
        return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(q.dtype)
    return torch.softmax(log_ref + q / eta, -1)


def factor_bonus(inverse: Float[torch.Tensor, "*n d d"], phi: Float[torch.Tensor, "*k d"]):
    """``sum_i phi_i sqrt((Lambda^{-1})_{ii})``: [n, ...] for n ridge matrices."""
    widths = inverse.diagonal(dim1=-2, dim2=-1).sqrt()
    flat = widths @ phi.reshape(-1, phi.shape[-1]).mT
    return flat.reshape(*widths.shape[:-1], *phi.shape[:-1])


def estimated_factors(n: Any, N: Any, phi: Float[torch.Tensor, "S A d"], lam: float):
    """``Lambda^{-1}`` [n, d, d] and ``W`` [n, d, S+1] of one stage; see the reference."""
    S, A, d = phi.shape
    flat, ended = phi.reshape(S * A, d), (n - N.sum(-1))[..., None]
    inverse = torch.linalg.inv(gram(n, phi, lam))
    counts = torch.cat([N, ended], -1).reshape(-1, S * A, S + 1).to(phi.dtype)
    return inverse, inverse @ (flat.mT @ counts)


def robust_critic(
    seen: tuple[Any, Any, Any], phi: Float[torch.Tensor, "S A d"], r: Float[torch.Tensor, "H S A"] | None,
    radius: Float[torch.Tensor, "H d"], caps: Float[torch.Tensor, " H"], log_ref: Any, *, kind: str, eta: float,
    beta: float, lam: float = 1.0, centred: bool = False, fail_state: int | None = None,
) -> Many:  # fmt: skip
    """``Q_h = clip(r_h + phi . nu_h + beta * bonus, 0, caps_h)``, backward over the stages; see the reference. ``log_ref`` is
    [n, H, S, A]."""
    data = Seen(*seen)
    f, v = torch.zeros_like(data.R), torch.zeros_like(data.R[:, 0, :, 0])
    H = f.shape[1]
    for h in reversed(range(H)):
        inverse, W = estimated_factors(data.n[:, h], data.N[:, h], phi, lam)
        if r is None:
            w = inverse @ torch.einsum("nsa,sad->nd", data.R[:, h], phi)[..., None]
            known = torch.einsum("sad,nd->nsa", phi, w[..., 0])
        else:
            known = r[h]
        nu = torch.zeros_like(W[..., 0])
        if h < H - 1:  # after the last stage nothing is left to regress on
            low = torch.where(W[..., -1].ne(0).any(-1), 0.0, v.amin(-1))
            after = torch.cat([v, torch.zeros_like(v[:, :1])], -1)
            nu = factor_values(W, after, radius[h], kind=kind, top=float(caps[0]), low=low, centred=centred)
        value = known + torch.einsum("sad,nd->nsa", phi, nu) + beta * factor_bonus(inverse, phi)
        f[:, h] = value.clamp(0.0, float(caps[h]))
        if fail_state is not None:
            f[:, h, fail_state] = 0.0
        v = soft_value(f[:, h], log_ref[:, h], eta)
    return f


@dataclass(frozen=True, eq=False)
class DrRpo(DrRpoSettings, EpisodicLearner):
    """DR-RPO; fields as in the reference."""

    def init(self, access: Any, seed: int, replica: int = 0) -> EpisodicState:
        """The critics of the offline data (or of none), and their policies."""
        check_fail_state(self.fail_state, check_spec(access.spec, None)[1])
        start = super().init(access, seed, replica)
        start.log_weights = self.act(start, access.spec, True)
        return start

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The robust critics of all data."""
        (H, S, A), device = check_spec(spec, None), log_weights.device
        _, r, _, caps = self.facts(spec, device)
        phi = torch.tensor(factor_features(self.phi, S, A), device=device)
        radius = torch.tensor(np.array(radii_of(self.kind, self.radius, H, phi.shape[-1])), device=device)
        return robust_critic(
            seen, phi, r, radius, caps, self.log_reference(log_weights), kind=self.kind, eta=self.eta,
            beta=-self.bonus_scale if self.pessimistic else self.bonus_scale, lam=self.lam, centred=self.centred,
            fail_state=self.fail_state,
        )  # fmt: skip

    def log_reference(self, log_weights: Many) -> Many:
        """Logs of the reference policies: the given one, or the policies that were played last."""
        log_ref = self._fixed(log_weights)
        return torch.log_softmax(log_ref + log_weights, -1) if self.moving_reference else log_ref

    def _fixed(self, like: Many) -> Many:
        table = reference_of(None if self.reference is None else np.array(self.reference), *like.shape[1:])
        return torch.tensor(np.log(table), device=like.device).expand_as(like)

    def gauge(self, seen: Seen) -> Float[torch.Tensor, "n H"]:
        """Nothing is tested."""
        return torch.zeros_like(seen.R[..., 0, 0])

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return torch.ones(len(now), dtype=torch.bool, device=now.device)

    def act(self, state: EpisodicState, spec: Spec, due: Any) -> Many:
        """``Q / eta``, the scores relative to the fixed reference; a moving one adds them up."""
        if self.eta == 0:
            return state.log_weights
        return mirror_step(state.log_weights if self.moving_reference else 0.0, state.f, 1 / self.eta)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """``reference exp(Q / eta)``; without regularisation the first of the best actions."""
        if self.eta == 0:
            return StagedPolicy(state.f, soft=False)
        return StagedPolicy(self._fixed(state.f) + state.log_weights)


@dataclass(frozen=True, eq=False)
class RobustLsvi(DrRpo):
    """Value-based robust least-squares value iteration: DR-RPO without a reference policy. Fields as in `DrRpo`."""

    eta: float = 0.0
