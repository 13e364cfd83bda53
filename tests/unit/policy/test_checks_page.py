"""docs/checks.md is current, and its examples work."""

import re

import yaml

from docs import generate
from webhook.policy import checks
from webhook.policy.settings import parse

PAGE = generate.PAGE.read_text()


def test_the_page_is_current() -> None:
    assert generate.page() == PAGE, "run `make docs`"


def test_every_check_has_a_heading_to_link_to() -> None:
    headings = set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE))
    assert headings == checks.ids(), "run `make docs`"


def test_the_settings_of_the_page_that_it_links_to_are_valid() -> None:
    install = generate.PAGE.with_name("install.md").read_text()
    blocks = re.findall(r"```yaml\n(settings:\n.+?)```", install, re.DOTALL)
    for block in blocks:
        parse(yaml.safe_load(block)["settings"], checks=checks.ids())
    assert any("exemptions:" in block and "levels:" in block for block in blocks)
