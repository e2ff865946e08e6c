"""Write the table of methods into the README (run as `python docs/make_tables.py`; a test keeps it true)."""

from __future__ import annotations

from pathlib import Path

from polytheory.catalog import methods
from polytheory.proofs_check.claims import claims_of
from polytheory.proofs_check.runner import load_method

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def table() -> str:
    """The methods as a Markdown table, one row each."""
    rows = ["| method | what | paper | claims | mutants |", "| --- | --- | --- | --- | --- |"]
    for entry in methods():
        load_method(entry.name)
        claims = claims_of(entry.name)
        mutants = sum(len(c.breaks) for c in claims)
        paper = f"[{entry.bib}]({entry.url})"
        rows.append(f"| [{entry.name}]({entry.page}) | {entry.title} | {paper} | {len(claims)} | {mutants} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The text with its table between the markers replaced."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
