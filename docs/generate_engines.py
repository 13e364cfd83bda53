"""Write the tables of docs/engines.md from policy: `python -m docs.generate_engines`."""

import re
from pathlib import Path

from webhook.policy import checks, engine

PAGE = Path(__file__).parent / "engines.md"
_MESHES = ("linkerd", "istio", "ambient")


def page() -> str:
    """Return the page with new tables."""
    text = PAGE.read_text()
    for name, table in (("checks", _checks()), ("conditions", _conditions())):
        start, end = f"<!-- {name}: written by `make docs` -->", f"<!-- /{name} -->"
        pattern = rf"(?<={re.escape(start)}\n).*?(?={re.escape(end)})"
        text = re.sub(pattern, lambda _, table=table: table, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


def _checks() -> str:
    rows = ["| check | decided by |\n|---|---|"]
    for name, entry in sorted(checks.all_checks().items()):
        meshes = [mesh for mesh in entry.check.meshes if mesh in engine.MESHES]
        if not meshes:
            by = "the server"
        elif entry.rule:
            by = "the API server, for ordinary pods"
        elif name in engine.UNDECIDED:
            by = "the server. If a level denies it, a pod that violates it is special"
        else:
            by = "the server: a pod that might violate it is special"
        rows.append(f"| `{name}` | {by} |")
    return "\n".join(rows) + "\n"


def _conditions() -> str:
    known: dict[str, list[str]] = {}
    for mesh in _MESHES:
        for condition in engine.ordinary(mesh):
            known.setdefault(condition.what, []).append(mesh)
    rows = ["| a pod is ordinary if | meshes |\n|---|---|"]
    for what, meshes in known.items():
        rows.append(f"| {what} | {'all' if len(meshes) == len(_MESHES) else ', '.join(meshes)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
