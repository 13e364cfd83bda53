"""docs/configuration.md is current, and its examples are accepted."""

import re
from pathlib import Path

import yaml

from docs import generate_configuration
from webhook.policy import checks, settings

PAGE = Path("docs/configuration.md").read_text()


def test_the_page_is_current() -> None:
    assert generate_configuration.page() == PAGE, "run `make docs`"


def test_every_structure_of_the_settings_has_its_section() -> None:
    explained = {*generate_configuration._SECTIONS, "Selector", "Expression"}
    assert settings.schema()["$defs"].keys() == explained


def test_every_setting_says_what_it_is() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.split(" | ")[-1].strip(" |") == ""] == []


def test_the_example_is_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    given = yaml.safe_load(example)["settings"]
    assert settings.parse(given, checks=checks.ids()).linkerd.inbound_policy == "all-authenticated"
