"""docs/troubleshooting.md: the messages that it calls ours exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
LOG = re.findall(r"^### (.+)$", PAGE.split("## In the server's log")[1], re.MULTILINE)
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "webhook").rglob("*.py")))


@pytest.mark.parametrize("heading", LOG)
def test_a_message_of_the_servers_log_is_written_by_the_server(heading: str) -> None:
    # In the source, a message goes on in the next line, and its variables are in braces.
    text = re.sub(r'"\s*\n?\s*f?"', "", SOURCE)
    parts = [re.escape(part.strip()) for part in heading.split("…")]
    assert re.search(r".{0,80}?".join(parts), text), heading


def test_there_are_messages_to_look_for() -> None:
    assert len(LOG) > 4
