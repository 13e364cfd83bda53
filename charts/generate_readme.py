"""Write the values table of the chart's README from the comments of its values.yaml.

`python charts/generate_readme.py` replaces the text between the two marks in README.md. A comment
belongs to the key directly below it. A comment line that starts with `# -- ` starts a section of
the table. If the keys of a mapping have comments, the mapping is listed key by key; any other value
is one row.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "mendix-mesh"
BEGIN = "<!-- values: written by charts/generate_readme.py from the comments in values.yaml -->"
END = "<!-- end of values -->"


@dataclass(frozen=True)
class Value:
    """One row: the section, the dotted key, its default as JSON, its comment (may be empty)."""

    section: str
    key: str
    default: str
    comment: str


def read(text: str) -> Iterator[Value]:
    """Yield all documented values of a values.yaml, in its order."""
    yield from _rows(yaml.compose(text), "", text.splitlines())


def table(text: str) -> str:
    """Return the Markdown of all sections."""
    lines: list[str] = []
    section = ""
    for value in read(text):
        if value.section != section:
            section = value.section
            lines += ["", f"### {section}", "", "| key | default | what |", "|---|---|---|"]
        lines.append(f"| `{value.key}` | `{value.default}` | {value.comment} |")
    return "\n".join(lines).strip()


def readme(old: str, values: str) -> str:
    """Return the README with a new table. Raise ValueError if the README has no marks."""
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        message = f"README.md must contain each of these two lines once: {BEGIN} and {END}"
        raise ValueError(message)
    before, rest = old.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(values)}\n\n{END}{rest.split(END)[1]}"


def _rows(node: yaml.Node | None, prefix: str, lines: list[str]) -> Iterator[Value]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line
        if isinstance(value, yaml.MappingNode) and _is_documented(value, lines):
            yield from _rows(value, f"{prefix}{key.value}.", lines)
        else:
            default = json.dumps(yaml.safe_load(yaml.serialize(value)), ensure_ascii=False)
            comment = _comment(line, lines).replace("|", "\\|")
            yield Value(_section(line, lines), prefix + key.value, default, comment)


def _is_documented(node: yaml.MappingNode, lines: list[str]) -> bool:
    return any(_comment(key.start_mark.line, lines) for key, _ in node.value)


def _comment(line: int, lines: list[str]) -> str:
    """Return the comment lines directly above a line, as one paragraph."""
    start = line
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return " ".join(text.lstrip().removeprefix("#").strip() for text in lines[start:line])


def _section(line: int, lines: list[str]) -> str:
    heads = (re.fullmatch(r"# -- (.+?) -+", text) for text in reversed(lines[:line]))
    return next((head[1] for head in heads if head), "Values")


def main() -> None:
    """Rewrite README.md in place."""
    path = CHART / "README.md"
    values = (CHART / "values.yaml").read_text()
    path.write_text(readme(path.read_text(), values))


if __name__ == "__main__":
    main()
