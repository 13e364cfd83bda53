"""The pages of reference name what there is, and nothing else."""

import re
from pathlib import Path
from typing import get_args

from docs import generate_commands
from webhook.cluster.auditor.events import Reason

ROOT = Path(__file__).parents[2]
LABELS = (ROOT / "docs/labels.md").read_text()
_KEY = re.compile(r"mendix-mesh\.io/[a-z-]+")


def test_the_page_of_commands_is_current() -> None:
    assert generate_commands.page() == generate_commands.PAGE.read_text(), "run `make docs`"


def test_every_key_is_named() -> None:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "webhook").rglob("*.py")))
    emergency = (ROOT / "docs/upgrade.md").read_text()
    known = {key.rstrip("-") for key in _KEY.findall(source + emergency)}
    rows = re.findall(r"^\| `(mendix-mesh\.io/[a-z-]+)`", LABELS, re.MULTILINE)
    # The audit annotations follow the webhook's name.
    assert known - {"mendix-mesh.io/verdict", "mendix-mesh.io/checks"} == set(rows)


def test_every_event_is_named() -> None:
    events = LABELS.split("## Events")[1]
    assert set(re.findall(r"^\| `(\w+)`", events, re.MULTILINE)) == set(get_args(Reason))
