"""The conformance page is what its numbers say, and a mistake in any number of ours is noticed."""

from __future__ import annotations

import importlib.util
import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from page_scripts import page_script
from posttraining_batches import REGISTRIES

from polytheory.conformance import targets
from polytheory.conformance.contract import Batch
from polytheory.conformance.table import candidates, page
from polytheory.conformance.table.batches import WITNESSES, named
from polytheory.conformance.table.findings import named_numbers
from polytheory.conformance.table.formulas import FORMULAS, Numbers
from polytheory.conformance.table.numbers import ROWS, TableError, compute, differences, path, read, verdict, write
from polytheory.parts import Kind
from polytheory.reference.posttraining.base import PARTS, Terms
from polytheory.scaled.posttraining import composition

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = DOCS / "conformance"
PAGE = (DOCS / "conformance.md").read_text("utf-8")
USED = sorted({(row.formula, row.batch) for rows in ROWS.values() for row in rows if row.formula in FORMULAS})


def test_the_page_is_what_the_generator_renders():
    assert page.render(KEPT) == PAGE


def test_the_kept_batches_are_those_of_the_table():
    text = (KEPT / "batches.json").read_text("utf-8")
    assert page_script("make_conformance").batches() == text
    kept = json.loads(text)
    assert list(kept) == ["small", *WITNESSES]
    for name, data in kept.items():
        again = Batch.from_lists(data).columns()
        assert all(torch.equal(x, again[column]) for column, x in named(name).columns().items())


def test_every_formula_is_used_and_known():
    assert {name for name, _ in USED} == set(FORMULAS)
    assert {row.formula for rows in ROWS.values() for row in rows} <= {*FORMULAS, "", "unsplit"}


def test_the_prose_names_numbers_that_exist_and_all_of_them():
    prose = (KEPT / "template.md").read_text("utf-8")
    fields = {field for _, field, _, _ in string.Formatter().parse(prose) if field}
    kept = {framework: read(framework, KEPT) for framework in ROWS}
    assert fields == {*named_numbers(kept), "batch", "tables"}
    assert all(f"[{key}]" in prose for formula in FORMULAS.values() for key in sources(formula.source))


def sources(text: str) -> list[str]:
    """The bib keys of a source."""
    return [part.split(",")[0].strip() for part in text.split(";") if part]


def test_the_small_batch_reaches_every_branch():
    batch = named("small")
    mask, a = batch.mask, batch.advantages[:, None].expand(batch.mask.shape)
    ratio = (batch.log_probs - batch.log_probs_old).exp()
    d = batch.log_probs - batch.log_probs_ref
    cases = {
        "good, above": (a > 0) & (ratio > 1.28), "good, below": (a > 0) & (ratio < 0.8),
        "good, inside": (a > 0) & (ratio > 0.8) & (ratio < 1.2), "bad, above": (a < 0) & (ratio > 1.2) & (ratio < 3),
        "bad, below": (a < 0) & (ratio < 0.8), "bad, beyond 3": (a < 0) & (ratio > 3),
        "more likely than ref": d > 0, "less likely than ref": d < 0,
    }  # fmt: skip
    assert [name for name, where in cases.items() if not bool((where & mask).any())] == []
    weights = (batch.log_probs_old - batch.log_probs_sampler).exp()
    whole = torch.where(mask, weights.log(), 0.0).sum(1).exp()
    for w in (weights[mask], whole):
        assert w.max() > 3
        assert 2 < w[w < 3].max()
        assert w.min() < 1
    assert len(set(batch.mask.sum(1).tolist())) == 4
    assert len({(g, s) for g, s in zip(batch.group.tolist(), batch.score.tolist(), strict=True)}) == 5


@pytest.mark.parametrize(("name", "batch"), USED)
def test_our_numbers_agree_with_torch_and_autograd(name, batch):
    """A third route to the formulas: the scaled room's parts, differentiated by autograd."""
    own, rounding = FORMULAS[name].numbers(named(batch))
    value, gradient = torch.zeros((), dtype=torch.float64), np.zeros(named(batch).mask.shape)
    for term in FORMULAS[name].terms:
        target, data = targets.target(term.target), named(batch)
        data = (term.prepare(data) if term.prepare else data).fresh(("log_probs",))
        settings = target.full(term.settings)
        columns: Any = data.columns()
        for use in target.recipe(settings):
            part = REGISTRIES["scaled"][use.part]
            if part.kind != Kind.LOSS:
                columns = part(columns, **use.settings)
        if target.kind == targets.COLUMN:
            expected, got = columns[target.column].numpy(), own.values
            mask = data.mask.numpy() if expected.ndim == 2 else np.ones(len(expected), dtype=bool)
            assert_allclose(np.where(mask, got, 0), np.where(mask, expected, 0), rtol=0, atol=rounding)
            return
        uses = [composition.Use(use.part, use.settings, use.weight) for use in target.recipe(settings)]
        average = {"normalisation": settings.get("normalisation", "token_sum"), "max_length": data.max_length}
        loss = composition.evaluate(columns, uses, **average)
        (slope,) = torch.autograd.grad(loss, data.log_probs)
        value = value + term.weight * loss.detach() * (term.counts != "gradient")
        gradient = gradient + term.weight * slope.numpy() * (term.counts != "value")
    assert_allclose(own.loss, float(value), rtol=0, atol=rounding)
    assert_allclose(own.gradient, gradient, rtol=0, atol=rounding)


@pytest.mark.parametrize(("name", "batch"), USED)
@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_a_mistake_in_any_of_our_numbers_is_noticed(name, batch, wrong, monkeypatch):
    before = page.formula_line(name, batch)
    assert before in PAGE
    term = FORMULAS[name].terms[0]
    target = targets.target(term.target)
    part = next(part for part in reversed(target.parts(target.full(term.settings))) if part.kind != Kind.SCORE)
    if target.kind == targets.COLUMN and wrong == "gradient":
        return
    if (wrong == "value" and term.counts == "gradient") or (wrong == "gradient" and term.counts == "value"):
        part = PARTS[targets.target(FORMULAS[name].terms[1].target).name]

    def mutant(columns: Any, **settings: Any) -> Any:
        out = part.function(columns, **settings)
        if target.kind == targets.COLUMN:
            return {**out, target.column: 1.001 * out[target.column]}
        if wrong == "value":
            return Terms(out.value + 1e-3, out.pullback)
        return Terms(out.value, lambda w: {k: 1.001 * g + 1e-3 * columns["mask"] for k, g in out.pullback(w).items()})

    monkeypatch.setitem(PARTS._parts, part.name, replace(part, function=mutant))
    assert page.formula_line(name, batch) != before


def first(framework: str, **wanted: Any) -> Any:
    """The first row with some fields."""
    return next(row for row in ROWS[framework] if all(getattr(row, k) == x for k, x in wanted.items()))


def test_a_difference_needs_a_reason_and_a_reason_a_difference():
    kept = read("trl", KEPT)
    equal, other = first("trl", formula="seq mean"), first("trl", formula="ipo")
    assert verdict(equal, kept[equal.name], kept).equal == "yes"
    assert verdict(other, kept[other.name], kept).equal == "no"
    with pytest.raises(TableError, match="yet a reason is given"):
        verdict(replace(equal, reason="none"), kept[equal.name], kept)
    with pytest.raises(TableError, match="no reason is given"):
        verdict(replace(other, reason=""), kept[other.name], kept)


def test_a_wrong_gradient_is_a_difference_even_where_the_loss_is_right():
    kept = read("trl", KEPT)
    row = first("trl", formula="seq mean")
    own = kept[row.name]
    turned = Numbers(own.loss, own.gradient[::-1].copy())
    assert_allclose(turned.gradient_norm, own.gradient_norm, rtol=1e-15)
    with pytest.raises(TableError):
        verdict(row, turned, kept)


def test_numbers_survive_being_kept_and_stale_files_are_refused(tmp_path):
    kept = read("verl", KEPT)
    write("verl", kept, tmp_path)
    assert differences(kept, read("verl", tmp_path)) == []
    file = path("verl", tmp_path)
    file.write_text(
        file.read_text("utf-8").replace("advantages(estimator='opo')", "advantages(estimator='opa')"), "utf-8"
    )
    with pytest.raises(TableError, match="of other rows"):
        read("verl", tmp_path)


def test_a_framework_that_is_missing_is_an_error_not_a_gap():
    for framework, rows in ROWS.items():
        if importlib.util.find_spec(framework) is None:
            with pytest.raises(ModuleNotFoundError, match=framework):
                compute(rows[0])


def test_rows_that_equal_one_target_are_candidates_of_the_kit():
    for framework, found in (("trl", candidates.TRL), ("verl", candidates.VERL)):
        assert len(found) > 15
        assert all(candidate.name.startswith(framework) for candidate in found)
        assert all(targets.of(candidate) for candidate in found)
