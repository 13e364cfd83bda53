"""Write the table of docs/bypasses.md of what was seen: `python -m docs.generate_bypasses`."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.wire.seen import DENIED_BY, NOTES, SEEN, rows

PAGE = Path(__file__).parent / "bypasses.md"
_START = "<!-- Written by `make docs` (docs/generate_bypasses.py) from tests/wire/seen.py. -->\n"
_END = "<!-- The end of what `make docs` writes. -->"


def page() -> str:
    """Return the whole page, with the table as it must be."""
    table = "\n".join(_table())
    parts = re.compile(f"{re.escape(_START)}.*?{re.escape(_END)}", re.DOTALL)
    return parts.sub(lambda _: f"{_START}\n{table}\n\n{_END}", PAGE.read_text())


def _table() -> Iterator[str]:
    yield "| pod | denied by | seen on the wire |"
    yield "|---|---|---|"
    for name, fixture in rows().items():
        check = DENIED_BY.get(name, fixture.check)
        seen = ", ".join(sorted(SEEN[name])) or "no plaintext"
        note = f". {NOTES[name]}" if name in NOTES else ""
        link = f"[{check}](checks.md#{check})"
        yield f"| `{fixture.what}`: {fixture.note} | {link} | {seen}{note} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
