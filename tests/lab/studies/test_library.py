"""The studies that ship run in their small form and draw what the pages show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.studies import answer, asked, load, names, results
from polytheory.lab.studies.measures import gradient_error

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", names())
def test_small_form_gives_every_figure(name, tmp_path):
    study = load(name, small=True)
    table = results(study, tmp_path, backend="serial")
    found = [answer(q, table) for q in asked(study)]
    assert found
    for a in found:
        assert all(any(v is not None and np.isfinite(v) for v in s.y) for s in a.shown.curve.series)


@pytest.mark.parametrize("name", names())
def test_full_form_is_well_formed_and_shown_on_a_page(name):
    study = load(name)
    stems = [f"{study.name}-{q.stem}" for q in asked(study)]
    assert stems == list(dict.fromkeys(stems))
    pages = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.md"))
    for stem in stems:
        assert f"{stem}.svg)" in pages, stem
        assert (ROOT / "docs" / "figures" / f"{stem}.svg").is_file()


def test_completeness_cures_what_amplifies():
    table = load("agnostic-amplification", small=True).table()
    loss = {name: own["loss"].to_numpy() for (name,), own in table.group_by("algorithm", maintain_order=True)}
    psdp, bound = loss["PSDP, not complete"], loss["H C eps"]
    np.testing.assert_allclose(psdp[1:] / psdp[:-1], 1.9, rtol=1e-9)  # by hand: 1 - last 1.9^(H - 1) is what is left
    np.testing.assert_allclose(psdp[0], 0.019, rtol=1e-9)
    for name in ("PSDP, complete", "CPI, complete"):
        assert (loss[name] <= bound + 1e-12).all()
        assert (loss[name] > 0).all()  # the slip is made there too
    assert (psdp[1:] > bound[1:]).all()
    # where CPI starts decides: it does not leave what PSDP found, and does not go there from the uniform policy
    np.testing.assert_allclose(loss["CPI from PSDP's answer, not complete"], psdp, rtol=1e-9)
    assert (loss["CPI, not complete"][1:] < bound[1:]).all()


def test_cost_lies_between_capacity_and_horizon_times_capacity():
    table = load("agnostic-cost", small=True).table()
    calls, capacity, H = (table[c].to_numpy() for c in ("transitions of a tree", "capacity", "env.H"))
    assert (calls >= capacity).all()
    assert (calls <= H * capacity).all()
    tons = table.filter(table["algorithm"] == "1-tons")
    assert tons["capacity"].to_list() == [1.0 + h for h in tons["env.H"]]  # sum over i <= 1 of binom(H, i)


def test_gradient_error_is_what_one_sample_is_off():
    """After the first step the direction is a single estimate; its mean square error is the variance, by enumeration."""
    import torch

    from polytheory import models
    from polytheory.access import Online
    from polytheory.lab.exact import Oracle
    from polytheory.lab.sweeps.measures import Look
    from polytheory.reference.policy_gradient.estimators import pg_estimate
    from polytheory.reference.policy_gradient.exact import enumerate_trajectories
    from polytheory.reference.policy_gradient.softmax import TabularSoftmax as Table
    from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
    from polytheory.scaled.policy_gradient.softmax import TabularSoftmax

    model, n, cut = models.make("two-state"), 400, 3
    learner = NPgIgt(policy=TabularSoftmax.zeros(model.S, model.A), truncation=cut)
    access = Online(model).replicate(n)
    state, _ = learner.step(learner.init(access, 0), access)
    found = gradient_error(Look(Oracle(model), learner, state, n, True))
    start = Table.zeros(model.S, model.A)
    p, traj = enumerate_trajectories(model, start, truncation=cut)
    g = pg_estimate(start, traj, gamma=model.gamma)
    squares = ((g - p @ g) ** 2).sum(axis=1)
    mean = float(p @ squares)
    spread = float(np.sqrt(p @ (squares - mean) ** 2 / n))
    assert abs(found.mean() - mean) <= 5 * spread  # five standard errors: 6e-7
    assert mean > 6 * spread
    # the exact direction has no error where the step was made, and some where it led to
    state.d = torch.tensor(np.tile(p @ g, (n, 1)))
    assert gradient_error(Look(Oracle(model), learner, state, n, True)).max() <= 1e-26  # (some 100 roundings)^2
    state.theta_prev = state.theta
    assert gradient_error(Look(Oracle(model), learner, state, n, True)).max() > 1e-8


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('compute = "polytheory.lab.studies.agnostic:nothing"', "write package.module:function"),
        ('compute = "x:y"\nseeds = 3', "unknown key of a computed study 'seeds'"),
        ("compute = ", "is no TOML"),
    ],
)
def test_bad_files(tmp_path, text, match):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises((SettingError, UnknownNameError), match=match):
        results(load(str(path)), tmp_path)


def test_unknown_study():
    with pytest.raises(UnknownNameError, match="did you mean 'value-iteration'"):
        load("value-iterations")


def test_the_page_names_every_study_and_its_example_runs(tmp_path, capsys):
    import re

    page = (ROOT / "docs" / "estimates.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in names())
    (toml,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "lock.toml").write_text(toml)
    assert len(load(str(tmp_path / "lock.toml")).cells()) == 4
    (python,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(python, "docs/estimates.md", "exec", dont_inherit=True), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("theorem says T^0.5; measured T^0.")
    assert 50 < float(lines[1]) < 400
    assert lines[2].startswith("the first is better after")
