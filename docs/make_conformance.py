"""Write the conformance table (docs/conformance.md), or a framework's numbers that it is made from.

python docs/make_conformance.py                     # the page, from the kept numbers
python docs/make_conformance.py --numbers trl       # TRL's numbers, where TRL is installed
python docs/make_conformance.py --numbers verl      # verl's
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from polytheory.conformance.table.batches import WITNESSES, named
from polytheory.conformance.table.numbers import all_numbers, write
from polytheory.conformance.table.page import render

DOCS = Path(__file__).parent
NUMBERS = DOCS / "conformance"


def batches() -> str:
    """The batches as JSON, in the form that ``Batch.from_lists`` reads."""
    rows = (
        f"{json.dumps(name)}:{json.dumps(named(name).lists(), separators=(',', ':'))}" for name in ("small", *WITNESSES)
    )
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", choices=["trl", "verl"], help="run this framework and keep its numbers")
    framework = parser.parse_args().numbers
    NUMBERS.mkdir(exist_ok=True)
    if framework:
        write(framework, all_numbers(framework), NUMBERS)
        return
    (NUMBERS / "batches.json").write_text(batches(), "utf-8")
    (DOCS / "conformance.md").write_text(render(NUMBERS), "utf-8")


if __name__ == "__main__":
    main()
