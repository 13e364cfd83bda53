"""Write the chart's files/judged.json from policy: `python -m charts.generate_judged`.

It has the keys and fields on which the verdict on an update depends. The chart's conditions
(templates/_conditions.tpl) compare only these. So other writes do not wait for the webhook.
"""

import json
import re
from pathlib import Path
from typing import Any

from webhook.policy import judged, mendix
from webhook.policy.judged import Judged, Keys
from webhook.policy.pod.workload import COPIED_FROM
from webhook.policy.settings import Settings

FILE = Path(__file__).parent / "mendix-mesh" / "files" / "judged.json"


def generated() -> str:
    """Return the content of the file."""
    content = {
        "podFields": judged.pod_fields(),
        "containerLists": judged.CONTAINERS,
        "containerFields": judged.container_fields(),
        # Owners whose template is judged, and the owner that undoes what is added to a template.
        "copiedFrom": [f"{group}/" for group in COPIED_FROM],
        "operator": f"{mendix.GROUP}/",
        "meshes": {
            name: _mesh(found) for name, found in sorted(judged.by_mesh(Settings()).items())
        },
    }
    return json.dumps(content, indent=2) + "\n"


def _mesh(found: Judged) -> dict[str, Any]:
    return {
        "labels": _keys(found.labels),
        "annotations": _keys(found.annotations),
        "namespaceAnnotations": found.of_namespaces,
        "policyAnnotations": found.of_policies,
    }


def _keys(keys: Keys) -> dict[str, Any]:
    pattern = keys.domains.pattern
    literal = re.match(r"[a-z]*", pattern)
    return {
        "keys": keys.keys,
        "starts": keys.domains.starts,
        "below": keys.domains.below,
        # CEL counts what a pattern costs for each key, so the keys' start is compared first.
        "patternStart": literal[0] if literal else "",
        "pattern": pattern and f"^{pattern}",
        "free": keys.free,
        "ofAgents": keys.of_agents,
    }


if __name__ == "__main__":
    FILE.write_text(generated())
