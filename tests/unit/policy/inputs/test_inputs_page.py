"""docs/inputs.md is current and complete, and its examples are accepted."""

import re

import yaml

from docs import generate_inputs
from tests.unit.policy.inputs import knobs
from webhook.policy import checks
from webhook.policy.inputs import istio, linkerd
from webhook.policy.settings import parse

PAGE = generate_inputs.PAGE.read_text()
ROWS = re.findall(r"^\| `([^`]+)` \| (.+) \| (\w+) \| \[([a-z-]+)\]", PAGE, re.MULTILINE)


def test_the_page_is_current() -> None:
    assert generate_inputs.page() == PAGE, "run `make docs`"


def test_every_key_has_its_row_with_words_for_its_value() -> None:
    listed = {key for by in ("linkerd", "istio") for one in knobs.lists(by) for key in one.listed}
    assert {key for key, *_ in ROWS} >= listed
    assert all(words.strip() and words[0].isalnum() for _, words, *_ in ROWS)
    assert {check for *_, check in ROWS} <= checks.ids()
    for name in (*istio.HARMLESS_KEYS, *istio.HARMLESS_ENV, *linkerd.HARMLESS_ENV):
        assert f"`{name}`" in PAGE


def test_every_link_leads_to_a_page() -> None:
    for target in re.findall(r"\]\(([a-z]+\.md)", PAGE):
        assert (generate_inputs.PAGE.parent / target).exists(), target


def test_the_settings_that_it_shows_are_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    assert parse(yaml.safe_load(example)["settings"], checks=checks.ids()).istio.annotations
