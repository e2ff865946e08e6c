"""From text to candidates: each way it can fail is one line that says what to do."""

from __future__ import annotations

import sys

import conformance_candidates
import pytest
from conformance_candidates import grpo

from polytheory.conformance import Candidate, Refused
from polytheory.conformance.loading import candidates
from polytheory.conformance.targets import of, target
from polytheory.errors import PolytheoryError, UnknownNameError

SOURCE = """
import torch
from polytheory.conformance import Candidate

def loss(batch, *, beta):
    return batch.log_probs.sum()

def marked(batch):
    return batch.log_probs.sum()

marked.against = "reinforce"
needs_more = lambda batch, *, temperature: batch.log_probs.sum()
nothing = lambda: 1
number = 3
both = [Candidate("one", marked, "kl_k1"), marked]
empty = []
CONFORMANCE = {"loss": {"against": "grpo", "settings": {"beta": 0.1}, "deviations": {"value": "a toy"}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "of_a_user.py").write_text(SOURCE)
    yield tmp_path
    for name in [x for x in sys.modules if x.startswith(("of_a_user", "broken_"))]:
        del sys.modules[name]


def test_from_a_module_and_from_a_file(folder):
    for spec in ("of_a_user:loss", "of_a_user.py:loss", str(folder / "of_a_user.py:loss")):
        (found,) = candidates(spec)
        assert (found.name, found.against, found.settings) == (spec, "grpo", {"beta": 0.1})
        assert found.deviations == {"value": "a toy"}


def test_what_is_given_goes_first(folder):
    (found,) = candidates("of_a_user:loss", "dapo", settings={"cap": 3.0}, deviations={})
    assert (found.against, found.settings, found.deviations) == ("dapo", {"beta": 0.1, "cap": 3.0}, {})


def test_attributes_candidates_and_lists(folder):
    assert candidates("of_a_user:marked")[0].against == "reinforce"
    assert [x.against for x in candidates("of_a_user:both")] == ["kl_k1", "reinforce"]
    (found,) = candidates(Candidate("mine", grpo, "grpo"), settings={"beta": 0.2})
    assert (found.name, found.settings) == ("mine", {"beta": 0.2})


def test_arguments_of_its_own_names():
    def adapter(batch, *, counts, coefficient):
        return (coefficient, counts.tokens)

    candidate = Candidate("adapter", adapter, "grpo", arguments={"coefficient": 7})
    found, settings = of(candidate)
    assert found is target("grpo")
    assert candidate.takes_counts
    batch = conformance_batch()
    assert candidate.call(batch, settings) == (7, 2)
    with pytest.raises(UnknownNameError, match="unknown argument of adapter 'coefficien'; did you mean 'coefficient'"):
        of(Candidate("adapter", lambda batch, *, coefficient=1: 0, "grpo", arguments={"coefficien": 7}))


def conformance_batch():
    from hypothesis import find

    from polytheory.conformance.strategies import batches

    return find(batches(reads=("log_probs", "group")), lambda batch: int(batch.mask.sum()) == 2)


@pytest.mark.parametrize(
    ("spec", "against", "text"),
    [
        ("of_a_user", "grpo", "names no function; write package.module:function"),
        (":loss", "grpo", "names no function"),
        ("of_a_user:", "grpo", "names no function"),
        ("of_a_user:los", "grpo", "of_a_user has no 'los'; did you mean 'loss'"),
        ("not_there:loss", "grpo", "there is no module 'not_there' here or installed"),
        ("not_there.py:loss", "grpo", "there is no file not_there.py"),
        ("of_a_user:number", "grpo", "is a int; expected f"),
        ("of_a_user:empty", "grpo", "is empty"),
        ("of_a_user:needs_more", "grpo", r"unknown required parameter of of_a_user:needs_more \(no setting of grpo\)"),
        ("of_a_user:nothing", "grpo", "takes no positional argument"),
        ("of_a_user:number", None, "is a int"),
        ("of_a_user:needs_more", None, "does not say what it is held against; pass against="),
        ("of_a_user:loss", "grp", "unknown target 'grp'; did you mean 'grpo'"),
        ("of_a_user:loss", "ipo", "unknown setting of ipo 'beta'"),
        ("broken_syntax:loss", "grpo", "broken_syntax cannot be imported: SyntaxError"),
        ("broken_raise.py:loss", "grpo", "broken_raise.py cannot be imported: ZeroDivisionError"),
        ("broken_exit:loss", "grpo", "broken_exit cannot be imported: SystemExit: 3"),
        ("broken_import:loss", "grpo", "broken_import imports 'no_such_package', which is not installed"),
        ("broken_table:f", None, "CONFORMANCE is a list; expected a dict"),
        ("broken_row:f", None, r"CONFORMANCE\['f'\] is a str; expected a dict"),
        ("broken_key:f", None, r"unknown key of CONFORMANCE\['f'\] 'agains'; did you mean 'against'"),
        ("broken_settings:f", None, "settings of broken_settings:f are a list; expected a dict"),
    ],
)
def test_one_line_for_every_way_it_can_fail(folder, spec, against, text):
    f = "def f(batch):\n    return batch.score\n"
    files = {
        "syntax": "def", "raise": "1 / 0", "exit": "raise SystemExit(3)", "import": "import no_such_package",
        "table": f + "CONFORMANCE = []", "row": f + "CONFORMANCE = {'f': 'grpo'}",
        "key": f + "CONFORMANCE = {'f': {'agains': 'grpo'}}",
        "settings": f + "CONFORMANCE = {'f': {'against': 'grpo', 'settings': []}}",
    }  # fmt: skip
    for name, source in files.items():
        (folder / f"broken_{name}.py").write_text(source)
    with pytest.raises(PolytheoryError, match=text) as caught:
        candidates(spec, against)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("grpo", {"eps_lw": 0.1}, "unknown setting of grpo 'eps_lw'; did you mean 'eps_low'"),
        ("grpo", {"eps_low": -1.0}, "eps_low = -1.0"),
        ("grpo", {"beta": -1.0}, "beta = -1.0; a KL coefficient is >= 0"),
        ("grpo", {"kl": "k9"}, "unknown part 'kl_k9'; did you mean"),
        ("grpo", {"correction": "both"}, "unknown correction 'both'"),
        ("grpo", {"normalisation": "tokens"}, "unknown normalisation 'tokens'"),
        ("group_advantages", {"scale": "std"}, "unknown scale of advantages 'std'"),
        ("gae", {"lam": 2.0}, "lam = 2.0; it must lie in"),
    ],
)
def test_settings_are_checked_before_any_work(name, settings, text):
    with pytest.raises(PolytheoryError, match=text):
        target(name).full(settings)


def test_a_declared_table_of_this_project_is_found():
    assert (
        conformance_candidates.CONFORMANCE["grpo"]["settings"] == candidates("conformance_candidates:grpo")[0].settings
    )


def test_a_refusal_is_one_line():
    assert str(Refused("two\n lines")) == "two lines"
