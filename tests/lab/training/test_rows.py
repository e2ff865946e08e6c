"""Reading data: files, folders as `datasets` saves them or as the hub has them, and what is wrong with them."""

from __future__ import annotations

import json

import pytest

from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.lab.training.rows import read_rows

ROWS = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(20)]
COLUMNS = {"question": [f"{i}?" for i in range(20)], "answer": [f"#### {i}" for i in range(20)]}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    import datasets
    import pyarrow
    from pyarrow import parquet

    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("data")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, root / "rows.parquet")
    for subset, n in (("main", 20), ("few", 2)):
        (root / "repo" / subset).mkdir(parents=True)
        parquet.write_table(table.slice(0, n), root / "repo" / subset / "train-00000-of-00001.parquet")
    (root / "repo" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: main/train-*\n- config_name: few\n  data_files: few/train-*\n---\n"
    )
    datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS), test=datasets.Dataset.from_list(ROWS[:3])
    ).save_to_disk(root / "splits")
    datasets.Dataset.from_list(ROWS).save_to_disk(root / "one.split")
    return root


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "splits", "one.split"])
def test_every_kind_gives_the_same_columns(places, name):
    assert read_rows(str(places / name)) == COLUMNS
    assert read_rows(str(places / name), "train[:5]")["question"] == COLUMNS["question"][:5]
    assert read_rows(str(places / name), "train[-3:]")["question"] == COLUMNS["question"][-3:]
    assert read_rows(str(places / name), "train[10%:50%]")["question"] == COLUMNS["question"][2:10]


def test_a_repository_has_subsets_and_splits(places, monkeypatch, tmp_path):
    repo = str(places / "repo")
    assert read_rows(repo, subset="main") == COLUMNS
    assert read_rows(repo, "train[50%:]", "main")["answer"] == COLUMNS["answer"][10:]
    assert len(read_rows(repo, subset="few")["answer"]) == 2
    assert len(read_rows(str(places / "splits"), "test")["answer"]) == 3
    with pytest.raises(SettingError, match="'many' not found"):
        read_rows(repo, subset="many")
    with pytest.raises(SettingError, match="Unknown split"):
        read_rows(repo, "test", "main")


def test_a_line_may_hold_a_separator_that_is_no_newline(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a\u2028b"}\r\n{"prompt": "c"}\n\n', encoding="utf-8")
    assert read_rows(str(path)) == {"prompt": ["a\u2028b", "c"]}


@pytest.mark.parametrize(
    ("name", "split", "subset", "error", "text"),
    [
        ("none.jsonl", "train", "", SettingError, "there is no file"),
        ("none.csv", "train", "", SettingError, r"\.jsonl or \.parquet"),
        ("none", "train", "", SettingError, "cannot be read"),
        ("rows.jsonl", "train", "main", SettingError, "which has none"),
        ("rows.jsonl", "train[20:]", "", SettingError, "leaves none of 20 rows"),
        ("rows.jsonl", "train[x:]", "", SettingError, r"train\[:1000\]"),
        ("splits", "validation", "", UnknownNameError, "test, train"),
        ("splits", "train", "main", SettingError, "save_to_disk"),
        ("empty.jsonl", "train", "", SettingError, "no rows"),
        ("list.jsonl", "train", "", SettingError, "line 1 is no object"),
        ("text.jsonl", "train", "", SettingError, "line 2 is not JSON"),
        ("latin.jsonl", "train", "", SettingError, "cannot read"),
        ("mixed.jsonl", "train", "", ColumnError, "row 1 has the columns"),
        ("text.parquet", "train", "", SettingError, "no Parquet file"),
    ],
)
def test_bad_data_is_one_line(places, name, split, subset, error, text):
    contents = {
        "empty.jsonl": b"\n", "list.jsonl": b"[1]\n", "text.jsonl": b'{"a": 1}\nb\n', "latin.jsonl": b'{"a": "\xe4"}\n',
        "mixed.jsonl": b'{"a": 1}\n{"b": 1}\n', "text.parquet": b"no",
    }  # fmt: skip
    if name in contents:
        (places / name).write_bytes(contents[name])
    with pytest.raises(error, match=text) as found:
        read_rows(str(places / name), split, subset)
    assert "\n" not in str(found.value)


def test_the_hub_without_a_network_is_one_line(monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'a/b' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(SettingError, match="without a network, give a file or a folder") as found:
        read_rows("a/b")
    assert "\n" not in str(found.value)
