"""Times to an event with censored runs: worked numbers, an oracle by another route, coverage, mutants."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulations import broken, is_at_least

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates import passage, survival
from polytheory.lab.estimates.passage import Passages, passages

# remission of leukaemia under 6-mercaptopurine [freireich1963; klein2003, section 4.2]: weeks, and whether it was seen to end
SEEN = [6, 6, 6, 7, 10, 13, 16, 22, 23]
CENSORED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
TABLE = {
    6: (0.857, 0.0764),
    7: (0.807, 0.0869),
    10: (0.753, 0.0963),
    13: (0.690, 0.1068),
    16: (0.627, 0.1141),
    22: (0.538, 0.1282),
    23: (0.448, 0.1346),
}


def remission() -> Passages:
    return sample([(t, True) for t in SEEN] + [(t, False) for t in CENSORED])


def sample(pairs) -> Passages:
    return Passages(np.array([t for t, _ in pairs], dtype=float), np.array([seen for _, seen in pairs], dtype=bool))


def redistributed(pairs) -> dict[int, Fraction]:
    """Survival after each event, by passing the mass of every censored run on to those that went on longer [efron1967]."""
    rows = sorted(pairs, key=lambda p: (p[0], not p[1]))
    mass, left, out = [Fraction(1, len(rows))] * len(rows), Fraction(1), {}
    for i, (t, seen) in enumerate(rows):
        if seen:
            left -= mass[i]
            out[t] = left
        elif i + 1 < len(rows):
            share = mass[i] / (len(rows) - i - 1)
            mass[i + 1 :] = [m + share for m in mass[i + 1 :]]
    return out


def table_holds(module=survival) -> bool:
    found = module.kaplan_meier(remission())
    ours = {int(t): (s, v**0.5) for t, s, v in zip(found.times, found.survival, found.variance, strict=True)}
    return ours.keys() == TABLE.keys() and all(
        abs(ours[t][0] - s) <= 5e-4 and abs(ours[t][1] - se) <= 5e-5 for t, (s, se) in TABLE.items()
    )  # half a unit of the printed table's last digit


def test_worked_table_of_survival_and_its_standard_error():
    assert table_holds()
    found = survival.kaplan_meier(remission())
    assert found.quantile(0.5) == 23
    assert found.quantile(0.25) == 13
    assert found.quantile(0.6) == np.inf
    assert found.quantile_interval(0.5) == (13, np.inf)  # as survfit(conf.type = "log-log") prints it


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(found.times >= t).sum()", "(found.times > t).sum()"),
        ("(found.times >= t).sum()", "(found.times[found.observed] >= t).sum()"),  # censored runs left out
        ("np.unique(found.times[found.observed])", "np.unique(found.times)"),
        ("(at_risk * (at_risk - events)", "(at_risk * at_risk"),
    ],
)
def test_the_table_catches(old, new):
    assert not table_holds(broken("survival", old, new))


PAIRS = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


@given(PAIRS)
def test_product_limit_is_redistribution_to_the_right(pairs):
    found, oracle = survival.kaplan_meier(sample(pairs)), redistributed(pairs)
    assert found.times.tolist() == sorted(oracle)
    for t, s in zip(found.times, found.survival, strict=True):
        assert abs(s - float(oracle[int(t)])) <= 1e-14 * len(pairs)  # a product of at most len(pairs) roundings


@given(PAIRS, st.sampled_from([0.25, 0.5, 0.9]))
def test_many_quantiles_at_once_are_the_single_ones(pairs, q):
    x = sample(pairs)
    assert survival.quantiles(x.times[None], x.observed[None], q)[0] == survival.kaplan_meier(x).quantile(q)


def test_restricted_mean_without_censoring_is_the_mean_of_what_is_cut_off():
    x = sample([(1, True), (4, True), (6, True), (9, True)])
    assert survival.kaplan_meier(x).restricted_mean(7.0) == pytest.approx((1 + 4 + 6 + 7) / 4, abs=1e-14)
    with pytest.raises(SettingError, match="beyond the longest record, 9"):
        survival.kaplan_meier(x).restricted_mean(10.0)


def covered(module, runs=300, n=40) -> tuple[int, float]:
    """Intervals for the median of exponential times, a third of them censored by exponential times; truth log 2."""
    hits, medians = 0, []
    for r in range(runs):
        g = np.random.default_rng([r, n])
        t, c = g.exponential(1.0, n), g.exponential(2.0, n)
        found = module.kaplan_meier(Passages(np.minimum(t, c), t <= c))
        low, high = found.quantile_interval(0.5)
        hits += low <= np.log(2) <= high
        medians.append(found.quantile(0.5))
    return hits, float(np.median(medians))


def test_coverage_of_the_median():
    hits, median = covered(survival)
    assert is_at_least(hits, 300, 0.95)
    # the sample median of n = 40 has sd 1 / (2 f sqrt n) = 0.16 times sqrt(1 / P(uncensored)) < 0.2; the median of 300: 0.0145
    assert abs(median - np.log(2)) <= 5 * 0.0145
    ignored, _ = covered(broken("survival", "(found.times >= t).sum()", "(found.times[found.observed] >= t).sum()"))
    assert not is_at_least(ignored, 300, 0.95)


AT = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
RECORD = np.array(
    [
        [0.9, 0.1, 0.5, 0.1, 0.1, 0.1],  # good, then not, then good
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],  # never
        [0.9, 0.1, 0.1, 0.1, 0.1, 0.1],
        [0.9, 0.1, 0.1, np.nan, np.nan, np.nan],  # cut short
    ]
)


def test_passages_by_both_definitions():
    first, stays = passages(AT, RECORD, 0.2), passages(AT, RECORD, 0.2, kind="stays")
    assert first.times.tolist() == [20, 60, 20, 20]
    assert first.observed.tolist() == [True, False, True, True]
    # stays: 40 > 60 / 2 is not held for long enough; 20 <= 60 / 2; 20 > 30 / 2
    assert stays.times.tolist() == [30, 30, 20, 15]
    assert stays.observed.tolist() == [False, False, True, False]


@given(st.integers(0, 2**32))
def test_staying_is_never_before_the_first_time(seed):
    y = np.random.default_rng(seed).exponential(1.0, (8, 12))
    at = np.arange(1.0, 13.0)
    first, stays = passages(at, y, 0.7), passages(at, y, 0.7, kind="stays")
    both = first.observed & stays.observed
    assert (stays.times[both] >= first.times[both]).all()
    assert (first.observed | ~stays.observed).all()
    for row, t, seen in zip(y, stays.times, stays.observed, strict=True):  # by looking at every start
        ok = [at[i] for i in range(12) if (row[i:] <= 0.7).all() and at[i] <= 6]
        assert (bool(ok), ok[0] if ok else 6.0) == (seen, t)


@pytest.mark.parametrize(
    ("old", "new"), [("at[length - 1]", "at[-1] + 0 * length"), ("HOLD * end", "end"), ("<= eps", "< eps - 0.1")]
)
def test_passages_catch(old, new):
    assert found_by(broken("passage", old, new)) != found_by(passage)


def found_by(module):
    found = [module.passages(AT, RECORD, 0.2, kind=kind) for kind in passage.KINDS]
    return [(x.times.tolist(), x.observed.tolist()) for x in found]


@pytest.mark.parametrize(
    ("at", "y", "eps", "text"),
    [
        (AT, RECORD, 0.0, "eps = 0.0"),
        (AT[::-1], RECORD, 0.1, "must increase"),
        (AT, np.where(AT == 30, np.nan, RECORD), 0.1, "gaps"),
        (AT, np.full((1, 6), np.nan), 0.1, "run 0 has no record"),
    ],
)
def test_bad_records_are_refused(at, y, eps, text):
    with pytest.raises(SettingError, match=text):
        passages(at, y, eps)
    with pytest.raises(UnknownNameError, match="did you mean 'stays'"):
        passages(AT, RECORD, 0.1, kind="stay")
