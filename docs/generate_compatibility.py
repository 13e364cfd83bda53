"""Write the table of docs/compatibility.md: `python -m docs.generate_compatibility`."""

import json
import re
from pathlib import Path

PAGE = Path(__file__).parent / "compatibility.md"
RESULTS = PAGE.parents[1] / "tests" / "cluster" / "compatibility.json"


def page() -> str:
    """Return the page with a new table."""
    pattern = r"(?<=compatibility\.json -->\n).*?(?=<!-- /kubernetes -->)"
    return re.sub(pattern, lambda _: _table(), PAGE.read_text(), flags=re.DOTALL)


def _table() -> str:
    rows = ["| Kubernetes | tested on | tests passed | failed | left out |\n|---|---|---|---|---|"]
    for version, found in reversed(json.loads(RESULTS.read_text()).items()):
        reasons = (f"{count}: {why}" for why, count in found["left out"].items())
        left_out = "<br>".join(reasons) or "none"
        rows.append(
            f"| {version} | {found['date']} | {found['passed']} | {found['failed']} | {left_out} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
