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


def test_every_link_leads_to_a_file_or_a_heading() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        if target.startswith("#"):
            assert target[1:] in checks.ids()
        else:
            assert (generate.PAGE.parent / target).resolve().exists(), target


def test_the_settings_that_it_shows_are_valid() -> None:
    (example,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    settings = parse(yaml.safe_load(example), checks=checks.ids())
    assert settings.exemptions
    assert settings.levels
