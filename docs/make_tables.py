"""Write the generated tables: methods into the README, what TRL and verl carry into docs/integrations.

Run as `python docs/make_tables.py`; tests keep them true.
"""

from __future__ import annotations

from pathlib import Path

from polytheory.catalog import methods
from polytheory.integrations.parts import page
from polytheory.integrations.trl import carried as trl
from polytheory.integrations.verl import carried as verl
from polytheory.proofs_check.claims import claims_of
from polytheory.proofs_check.runner import load_method

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
CARRIED = "<!-- carried: begin -->", "<!-- carried: end -->"
INTEGRATIONS = {
    Path(__file__).parent / "integrations" / f"{m.__name__.split('.')[-2]}.md": m.table for m in (trl, verl)
}


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
    """The text with its table of methods replaced."""
    return between(text, BEGIN, END, table())


def between(text: str, begin: str, end: str, new: str) -> str:
    """The text with what stands between two markers replaced."""
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n\n{new}\n\n{end}{tail}"


def with_carried(path: Path) -> str:
    """A page of docs/integrations with its table replaced."""
    return between(path.read_text(encoding="utf-8"), *CARRIED, page(INTEGRATIONS[path]()))


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    for found in INTEGRATIONS:
        found.write_text(with_carried(found), encoding="utf-8")
