"""The training in the verification report: its curve and table, there and back through the saved numbers."""

from __future__ import annotations

from polytheory.lab.records import Verification, dump, load
from polytheory.lab.report import page
from polytheory.lab.training.embedded import embedded


def test_the_report_shows_the_training_also_from_the_saved_numbers(tmp_path):
    told: list[str] = []
    small = {"steps": 2, "sft_steps": 2, "sft_batch": 8, "rows": 64, "held_out": 8, "prompts": 2, "evaluate_every": 1}
    record = embedded(told.append, small)
    assert told[-2].startswith("training: step 2/2, score ")
    assert [len(s.x) for s in record.curve.series] == [2, 4, 4]
    path = tmp_path / "verify.json"
    path.write_text(dump(Verification([], training=record)))
    found = load(path)
    assert found.training == record
    html = page(found)
    assert "A language model in training" in html
    assert html.count("<polyline") == 3
    assert record.accuracy[0][2] in html
    assert "A language model in training" not in page(Verification([]))
