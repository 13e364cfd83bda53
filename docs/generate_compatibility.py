"""Write the tables of docs/compatibility.md: `python -m docs.generate_compatibility`."""

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "compatibility.md"
RESULTS = PAGE.parents[1] / "tests" / "cluster" / "compatibility.json"


def page() -> str:
    """Return the page with new tables."""
    text = PAGE.read_text()
    for product, found in json.loads(RESULTS.read_text()).items():
        name = product.lower()
        pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- /{name} -->)"
        table = _table(product, found)
        text = re.sub(pattern, rf"\g<1>{table}\g<2>", text, flags=re.DOTALL)
    return text


def _table(product: str, results: dict[str, dict[str, Any]]) -> str:
    rows = [f"| {product} | tested on | tests passed | failed | left out |\n|---|---|---|---|---|"]
    for release, found in reversed(results.items()):
        reasons = (f"{count}: {why}" for why, count in found["left out"].items())
        left_out = "<br>".join(reasons) or "none"
        cells = [_title(release, found["version"]), found["date"], found["passed"], found["failed"]]
        rows.append(f"| {' | '.join(map(str, [*cells, left_out]))} |")
    return "\n".join(rows) + "\n"


def _title(release: str, version: str) -> str:
    """Return the version, or for a commit the release and the commit's day."""
    return version if version.startswith(release) else f"{release}, commit of {version}"


if __name__ == "__main__":
    PAGE.write_text(page())
