"""docs/ingress.md: its settings are valid, and it names what mendix-mesh sets."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook.policy import checks, ingress
from webhook.policy.settings import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ingress.md").read_text()
BLOCKS: list[Any] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]
SETTINGS = [block["settings"] for block in BLOCKS if "settings" in block]


def test_the_settings_of_the_page_are_valid() -> None:
    assert len(SETTINGS) == 2
    for one in SETTINGS:
        parse(one, checks=checks.ids())


@pytest.mark.parametrize("key", [*ingress.SERVICE_UPSTREAM.values(), ingress.UPSTREAM_VHOST])
def test_the_page_names_each_annotation_that_is_set(key: str) -> None:
    assert f"`{key}" in PAGE


def test_the_page_names_each_annotation_for_sticky_sessions() -> None:
    section = PAGE.split("## Sticky sessions")[1]
    for key in ingress.STICKY:
        assert f"`{key}`" in section
