"""Write the schema of `settings:` in the chart's values.schema.json from the settings' types.

With it, helm rejects a misspelled setting or an unknown check before it installs anything.
"""

import json
from pathlib import Path
from typing import Any

from webhook.policy import checks, plaintext, settings

SCHEMA = Path(__file__).parent / "mendix-mesh" / "values.schema.json"


def generated(old: str) -> str:
    """Return the chart's schema with new definitions of the settings."""
    chart = json.loads(old)
    own = settings.schema()
    kept = {name: value for name, value in chart["$defs"].items() if name[0].islower()}
    kept["settings"] = {"$ref": own["$ref"]}
    chart["$defs"] = kept | {name: _named(value) for name, value in own["$defs"].items()}
    return json.dumps(chart, indent=2, ensure_ascii=False) + "\n"


def _named(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition with the allowed check ids in the fields that take a check."""
    known = {"enum": sorted(checks.ids() | plaintext.ids())}
    properties = definition.get("properties", {})
    if "checks" in properties:
        properties["checks"]["items"] = known
    if "check" in properties:
        properties["check"] = known
    return definition


if __name__ == "__main__":
    SCHEMA.write_text(generated(SCHEMA.read_text()))
