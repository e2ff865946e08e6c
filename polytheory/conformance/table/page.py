"""The table as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polytheory.conformance.table.batches import named
from polytheory.conformance.table.findings import named_numbers
from polytheory.conformance.table.formulas import FORMULAS, Numbers
from polytheory.conformance.table.numbers import REPEAT, ROWS, distance, read, verdict
from polytheory.conformance.table.rows import Row

Kept = Mapping[str, Mapping[str, Numbers | str]]
CALLS = {
    "grpo_loss": "GRPOTrainer", "grpo_advantages": "GRPOTrainer", "rloo_loss": "RLOOTrainer", "rloo_advantages": "RLOOTrainer",
    "dpo_loss": "DPOTrainer", "policy_loss": "policy loss", "kl_loss": "KL penalty", "advantages": "estimator",
}  # fmt: skip
FRAMEWORKS = {"trl": "TRL", "verl": "verl"}
SECTIONS: dict[str, Callable[[Row], bool]] = {
    "Policy losses": lambda row: (
        row.call in ("grpo_loss", "rloo_loss", "policy_loss") and not _of_kl(row) and not _of_sampler(row)
    ),
    "KL terms": lambda row: row.call == "kl_loss" or _of_kl(row),
    "Mismatch between sampler and trainer": lambda row: _of_sampler(row),
    "Preference losses": lambda row: row.call == "dpo_loss",
    "Advantages": lambda row: "advantages" in row.call,
}
HEAD = {
    False: "| where | setting | loss | gradient norm | equals the formula? |\n| --- | --- | ---: | ---: | --- |",
    True: "| where | setting | advantages | equals the formula? |\n| --- | --- | --- | --- |",
}


def _of_kl(row: Row) -> bool:
    return bool(row.settings.get("beta") or row.settings.get("use_kl_loss")) and row.call in (
        "grpo_loss",
        "policy_loss",
    )


def _of_sampler(row: Row) -> bool:
    s = row.settings
    return bool(s.get("use_vllm") or s.get("rollout_is") or s.get("rollout_rs") or s.get("loss_mode") == "bypass_mode")


def render(folder: Path) -> str:
    """The page, from the frameworks' kept numbers and the prose in ``folder`` and from our own numbers, computed now.

    Raises `TableError` where a number differs from its formula without a reason, or has a reason without a difference.
    """
    kept = {framework: read(framework, folder) for framework in ROWS}
    rows = [row for rows in ROWS.values() for row in rows]
    tables = [section(title, [row for row in rows if belongs(row)], kept) for title, belongs in SECTIONS.items()]
    prose = (folder / "template.md").read_text("utf-8")
    return prose.format(**named_numbers(kept), batch=batch_table(), tables="\n".join(tables))


def section(title: str, rows: list[Row], kept: Kept) -> str:
    """One table: formula by formula, then what has no formula here."""
    values = title == "Advantages"
    lines = [f"## {title}\n", HEAD[values]]
    for name in FORMULAS:
        own = [row for row in rows if row.formula == name]
        for batch in dict.fromkeys(row.batch for row in own):
            lines += [formula_line(name, batch), *(line(row, kept) for row in own if row.batch == batch)]
    bare = [row for row in rows if row.formula not in FORMULAS]
    return "\n".join([*lines, *(line(row, kept) for row in bare), ""])


def formula_line(name: str, batch: str) -> str:
    """The line of a formula, with our own numbers, computed now."""
    formula = FORMULAS[name]
    own, _ = formula.numbers(named(batch))
    source = f" [{formula.source}]" if formula.source else ""
    text = f"**{formula.title}**{source}{_on(batch)}: `{formula.text}`"
    return f"| **polytheory** | {text} | {_cells(own, batch)} | |"


def line(row: Row, kept: Kept) -> str:
    """One row."""
    own = kept[row.framework][row.name]
    found = verdict(row, own, kept[row.framework])
    if isinstance(own, str):
        cells = "—" if "advantages" in row.call else "— | —"
        answer = own
    else:
        cells = _cells(own, row.batch)
        if found is None:
            answer = "no paper formula here" + _peers(row, own, kept) + (f"; {row.note}" if row.note else "")
        else:
            what = {"yes": "yes", "gradient": "gradient yes, value no", "no": f"**no**, off by {found.difference:.2g}"}[
                found.equal
            ]
            answer = what + (f": {row.reason}" if row.reason else "")
    return f"| {FRAMEWORKS[row.framework]} | {CALLS[row.call]} {setting(row)} | {cells} | {answer} |"


def setting(row: Row) -> str:
    """The settings as a user of the framework writes them."""
    inside = ", ".join(f"{name}={value!r}" for name, value in row.settings.items()).replace("'", '"')
    parts = f" in {row.micro_batches} micro-batches" if row.micro_batches > 1 else ""
    return (f"`{inside}`" if inside else "(defaults)") + parts + _on(row.batch)


def _on(batch: str) -> str:
    return "" if batch == "small" else f" on *{batch}*"


def _cells(numbers: Numbers, batch: str) -> str:
    if numbers.values is None:
        return f"{numbers.loss:.9f} | {numbers.gradient_norm:.9f}"
    values, mask = numbers.values, named(batch).mask.numpy()
    if values.ndim == 2:
        same = all(distance(row[m], row[m][:1]) <= REPEAT for row, m in zip(values, mask, strict=True))
        if not same:
            rows = ("(" + " ".join(_number(x) for x in row[m]) + ")" for row, m in zip(values, mask, strict=True))
            return " ".join(rows)
        values = values[:, 0]
    return " ".join(_number(x) for x in values)


def _number(x: float | int) -> str:
    text = f"{x:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _peers(row: Row, own: Numbers, kept: Kept) -> str:
    """The other framework's rows without formula that have the same numbers."""
    found = []
    for framework, rows in ROWS.items():
        for other in rows:
            numbers = kept[framework][other.name]
            if framework == row.framework or other.formula or other.batch != row.batch or isinstance(numbers, str):
                continue
            if own.loss is None or own.gradient is None or numbers.loss is None or numbers.gradient is None:
                continue
            if max(abs(own.loss - numbers.loss), distance(own.gradient, numbers.gradient)) <= REPEAT:
                found.append(f"{FRAMEWORKS[framework]}'s {setting(other)}")
    return f"; equals {', '.join(found)}" if found else ""


def batch_table() -> str:
    """The small batch."""
    batch = named("small")
    mask = batch.mask.numpy()

    def cells(column: Any, i: int) -> str:
        return " ".join(_number(x) for x in column.detach().numpy()[i][mask[i]])

    lines = ["| row | prompt | A | R | log π | log old | log ref | log sampler | V |", "| --- " * 9 + "|"]
    for i in range(len(mask)):
        columns = (batch.log_probs, batch.log_probs_old, batch.log_probs_ref, batch.log_probs_sampler, batch.values)
        numbers = (int(batch.group[i]), batch.advantages[i].item(), batch.score[i].item())
        own = " | ".join([*map(_number, numbers), *(cells(x, i) for x in columns)])
        lines.append(f"| {i} | {own} |")
    pairs = ", ".join(f"{w} over {l}" for w, l in batch.pairs.tolist())
    return "\n".join(
        [
            *lines,
            f"\nPreference pairs: {pairs}. Longest completion that could have been sampled: {batch.max_length} tokens.\n",
        ]
    )
