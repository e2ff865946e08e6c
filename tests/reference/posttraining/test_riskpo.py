"""RiskPO: worked numbers, both rooms on generated bundles, defined behaviour at the edges, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from posttraining_batches import REGISTRIES, tensors

from polytheory import models
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.proofs_check.posttraining.bundle_claims import batches, worked_batch
from polytheory.reference.posttraining import risk
from polytheory.reference.posttraining.riskpo import RiskPo, TabularSoftmax
from polytheory.scaled.posttraining import risk as scaled_risk
from polytheory.scaled.posttraining.riskpo import RiskPo as ScaledRiskPo
from polytheory.scaled.posttraining.riskpo import TabularSoftmax as Batched

ROOMS = ("reference", "scaled")
MODEL = models.make("token-mdp")
EXACT = {"rtol": 0, "atol": 1e-12}


def inward(room, columns):
    return columns if room == "reference" else tensors(columns)


def outward(x):
    return x.numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def bundled(room, columns, size):
    return REGISTRIES[room]["form_bundles"](inward(room, columns), size=size)


def advantages(room, columns, state=None, **options):
    written, after = REGISTRIES[room]["risk_advantages"](columns, state, **options)
    return outward(written["bundle_advantages"]), after


@pytest.mark.parametrize("room", ROOMS)
def test_worked_bundle(room):
    columns = bundled(room, worked_batch().columns, 2)
    assert_array_equal(outward(columns["bundle_score"]), [1, 0, 2, 1] * 2)
    options = {"natural": True, "standardise": False, "quantiles": "batch"}
    for measure, expected in {
        "rvar": [-2 / 3, -4 / 3, 0, -2 / 3],
        "cvar": [0, -3, 0, 0],
        "mvar_released": [-0.26666666666666666, -2.3333333333333335, 0, -0.26666666666666666],
        "mvar": [-0.4, -0.8 - 4.5 * 0.6, 0, -0.4],  # g is z - 1.4 within [-.8, 0]; the tail is .6 at z = 0
        "seeking": [(-2 / 3) / 2.5, (-4 / 3) / 2.5, 1.5 * 0.6 / 0.2 / 2.5, (-2 / 3) / 2.5],
        "mean": [1, 0, 2, 1],
    }.items():
        assert_allclose(advantages(room, columns, measure=measure, **options)[0], expected * 2, **EXACT)


@pytest.mark.parametrize("module", [risk, scaled_risk])
def test_worked_tracker(module):
    numbers = (lambda x: torch.tensor(x, dtype=torch.float64)) if module is scaled_risk else np.array
    q, scores, levels = numbers([0.0, 0.0]), numbers([1.0, 0.0, 2.0, 1.0]), numbers([0.2, 0.8])
    for expected in ((0.02, 0.08), (0.015, 0.135), (0.01, 0.19)):
        q = module.track(q, scores, levels=levels, lr_q=0.1)
        assert_allclose(outward(q), expected, **EXACT)


SETTINGS = st.fixed_dictionaries({
    "measure": st.sampled_from(risk.MEASURES), "natural": st.booleans(), "standardise": st.booleans(),
    "quantiles": st.sampled_from(["track", "batch", "mix"]), "convention": st.sampled_from(risk.CONVENTIONS),
    "baseline": st.sampled_from(["none", "tracked", "bundle"]), "beta": st.sampled_from([0.8, 0.9]),
})  # fmt: skip


@settings(max_examples=25)
@given(batch=batches(), options=SETTINGS, credit=st.sampled_from(["uniform", "std", "score", "sum_mean"]))
def test_rooms_agree(batch, options, credit):
    found = {}
    for room in ROOMS:
        columns, state, steps = bundled(room, batch.columns, batch.size), None, []
        for _ in range(3):
            written, state = REGISTRIES[room]["risk_advantages"](columns, state, **options)
            shared = REGISTRIES[room]["share_credit"](written, credit=credit, size=batch.size)
            steps += [shared["bundle_sample"], shared["bundle_score"], shared["advantages"], state["quantiles"]]
        found[room] = [outward(x) for x in steps]
    for a, b in zip(*found.values(), strict=True):
        assert a.dtype == b.dtype
        # deviations of at least 1e-3 and sums of shares of at least 1e-6 divide roundings
        assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(a).max()))


@settings(max_examples=25)
@given(batch=batches(), options=SETTINGS)
def test_order_of_rows_changes_no_bit(batch, options):
    whole, again = (bundled("reference", c, batch.size) for c in (batch.columns, batch.ordered()))
    place = np.argsort(np.argsort(batch.name))
    a, state = advantages("reference", whole, **options)
    b, after = advantages("reference", again, **options)
    assert_array_equal(a, b[place])
    assert_array_equal(state["quantiles"], after["quantiles"])


@pytest.mark.parametrize("module", [risk, scaled_risk])
@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=21), level=st.integers(0, 20).map(lambda k: k / 20),
)  # fmt: skip
def test_sample_quantiles(module, scores, level):
    x = np.array(scores, dtype=float)
    given_scores = torch.from_numpy(x) if module is scaled_risk else x
    linear = float(module.sample_quantile(given_scores, level))
    assert_allclose(linear, np.quantile(x, level), rtol=1e-14, atol=1e-14)
    inf = float(module.sample_quantile(given_scores, level, "inf"))
    upto = {y: sum(z <= y for z in scores) * 20 for y in scores}  # P(R <= y) in units of 1 / (20 m): no rounding
    assert inf == min(y for y in scores if upto[y] >= round(level * 20) * len(scores))


@pytest.mark.parametrize("module", [risk, scaled_risk])
def test_quantiles_of_a_law(module):
    values, probs = np.array([2.0, 0.0, 1.0, 2.0, 5.0]), np.array([0.3, 0.25, 0.25, 0.2, 0.0])
    if module is scaled_risk:
        values, probs = torch.from_numpy(values), torch.from_numpy(probs)
    found = [module.law_quantile(values, probs, level) for level in (0.0, 0.2, 0.3, 0.6, 0.9, 1.0)]
    assert found == [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]  # 5 has no mass; 0.8 = 0.5 + 0.3 is inside the atom 2
    assert module.law_quantile(values, probs, 0.8) == 2.0
    with pytest.raises(SettingError, match=r"level 0.5 is on a jump: P\(R <= 1\) = 0.5"):
        module.law_quantile(values, probs, 0.5)


@pytest.mark.parametrize("module", [risk, scaled_risk])
def test_crossed_quantiles_are_read_in_order(module):
    q = np.arange(19.0)
    q[3], q[15] = 15.0, 3.0
    q = torch.from_numpy(q) if module is scaled_risk else q
    assert [float(module.tracked(q, level)) for level in (0.2, 0.8)] == [3.0, 15.0]
    with pytest.raises(SettingError, match=r"level 0.33 is not among the tracked 0.05, 0.1"):
        module.tracked(q, 0.33)


@pytest.mark.parametrize("room", ROOMS)
def test_averse_weights_are_never_positive_although_tracked_quantiles_cross(room):
    crossed = turned = 0
    for seed in range(5):
        rng, state = np.random.default_rng(seed), None
        for step in range(40):
            score = rng.integers(0, 2, 8) * float(step == 0)  # a law of one atom makes neighbours cross
            columns = bundled(room, {**worked_batch().columns, "score": score}, 2)
            if state is not None:
                q = outward(state["quantiles"])
                crossed += (np.diff(q) < -1e-9).any()
                turned += q[3] > q[15] + 1e-9
            found, state = advantages(room, columns, state, measure="rvar", natural=True, lr_q=0.5)
            assert (found <= 1e-12).all()  # roundings of quantiles, divided by deviations of at least 1/2, or by 1
    assert crossed > 100
    assert turned > 0  # even 0.2 and 0.8: without sorting all weights would be positive


@pytest.mark.parametrize("room", ROOMS)
def test_a_bundle_whose_samples_score_the_same(room):
    score = np.array([1.0, 0, 1, 0, 0, 1, 0, 1])  # every sample scores 1: no deviation
    columns = bundled(room, {**worked_batch().columns, "score": score}, 2)
    state = {"quantiles": inward(room, {"q": np.linspace(0.1, 1.9, 19)})["q"]}
    found, _ = advantages(room, columns, state, natural=True)
    assert_allclose(found, (1.0 - 1.6) * np.ones(8), **EXACT)  # q(.2) = .4, q(.8) = 1.6; divided by 1
    found, _ = advantages(room, columns, None, natural=True)
    assert_array_equal(found, np.zeros(8))


@pytest.mark.parametrize("room", ROOMS)
def test_tiny_sums_are_bounded_and_still_sum(room):
    columns = {
        "score": np.array([0.9, 0.0, 0.1, 1.0]), "group": np.array([0, 0, 1, 1]), "bundle_sample": np.array([0, 1, 0, 1]),
        "bundle_advantages": np.array([2.0, -1.0, 2.0, -1.0]),
    }  # fmt: skip
    columns["score"][0] += 0.002  # sample 0: centred .451 and -.45, shares of some 451
    part = REGISTRIES[room]["share_credit"]
    free, bounded = (outward(part(inward(room, columns), size=2, largest_share=x)["advantages"]) for x in (np.inf, 5.0))
    assert abs(free[0]) > 800
    assert_allclose([bounded[0] + bounded[2], bounded[1] + bounded[3]], [2.0, -1.0], **EXACT)
    assert_allclose(np.abs(bounded).max(), 10.0, **EXACT)


def columns_with(**changes):
    return {**worked_batch().columns, **{k: np.array(x) for k, x in changes.items()}}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("columns", "size", "message"),
    [
        (columns_with(), 3, r"bundle 0 has 2 prompt\(s\), not 3; drop it or fill it up"),
        (columns_with(group=[0] * 3 + [1] * 5, shuffle=range(8)), 2, "bundle 0 has prompts with 3 and 5 responses"),
        (columns_with(bundle=[0] * 7 + [1]), 1, r"group 1 is in bundles \[0, 1\]; a prompt is in one"),
        (columns_with(shuffle=[0.0] * 8), 2, "group 0: two responses have one place in shuffle"),
    ],
)
def test_bundles_that_are_refused(room, columns, size, message):
    with pytest.raises(ColumnError, match=message):
        bundled(room, columns, size)


@pytest.mark.parametrize("room", ROOMS)
def test_parts_refuse(room):
    columns = bundled(room, worked_batch().columns, 2)
    single = bundled(room, {k: x[::4] for k, x in worked_batch().columns.items()}, 2)
    with pytest.raises(ColumnError, match=r"group 0 has 1 completion\(s\), the baseline needs 2"):
        advantages(room, single)
    with pytest.raises(ColumnError, match="column 'bundle_score' is missing"):
        advantages(room, {k: x for k, x in columns.items() if k != "bundle_score"})
    with pytest.raises(SettingError, match="a bundle holds at least 1 prompt"):
        bundled(room, worked_batch().columns, 0)
    with pytest.raises(UnknownNameError, match="unknown credit 'sum-mean'; did you mean 'sum_mean'"):
        REGISTRIES[room]["share_credit"](columns, credit="sum-mean", size=2)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompts": 7}, SettingError, "prompts = 7 do not fill bundles of bundle_size = 5; take a multiple"),
        ({"bundle_size": 0}, SettingError, "bundle_size = 0"),
        ({"group_size": 1}, SettingError, "at least 2 responses"),
        ({"measure": "var"}, UnknownNameError, "unknown risk measure 'var'"),
        ({"alpha": 0.8, "beta": 0.2}, SettingError, "need 0 <= alpha < beta <= 1"),
        ({"alpha": 0.0, "measure": "cvar"}, SettingError, "alpha = 0 leaves cvar no lower tail"),
        ({"beta": 1.0, "measure": "seeking"}, SettingError, "no upper tail"),
        ({"alpha": 0.33}, SettingError, "level 0.33 is not among the tracked"),
        ({"w": -1.0}, SettingError, "w = -1.0"),
        ({"quantiles": "tracked"}, UnknownNameError, "did you mean 'track'"),
        ({"convention": "lower"}, UnknownNameError, "unknown convention of quantiles"),
        ({"baseline": "mean"}, UnknownNameError, "unknown baseline"),
        ({"lr_q": 0.0}, SettingError, "lr_q = 0.0"),
        ({"credit": "equal"}, UnknownNameError, "unknown credit"),
        ({"largest_share": 1.0}, SettingError, "largest_share = 1.0"),
        ({"eps": -1.0}, SettingError, "eps = -1.0"),
        ({"surrogate": "cispo"}, UnknownNameError, "unknown surrogate"),
        ({"eps_low": -0.1}, SettingError, "widths are >= 0"),
    ],
)
def test_settings_are_checked(room, options, error, message):
    cls, policy = (RiskPo, TabularSoftmax) if room == "reference" else (ScaledRiskPo, Batched)
    with pytest.raises(error, match=message):
        cls(policy=policy.zeros(MODEL.S, MODEL.A), **options)


def test_any_levels_without_a_tracker():
    assert RiskPo(policy=TabularSoftmax.zeros(MODEL.S, MODEL.A), alpha=0.33, beta=1.0, quantiles="batch").alpha == 0.33
