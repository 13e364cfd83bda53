"""Istio's proxy configuration: read as Go reads it, and merged without changing a character."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook.policy.inputs.proxyconfig import HOLD, holding, parse


@pytest.mark.parametrize("text", [None, "", " \n", "# no more than a comment", "{}", "--- {}\n"])
def test_nothing_said_is_nothing(text: str | None) -> None:
    assert parse(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "concurrency: 2\nproxyMetadata: {A: b}\n",
        '{"concurrency": 2, "proxyMetadata": {"A": "b"}}',
        "{concurrency: 2, proxyMetadata: {A: b}}",
        "--- # a comment\n  concurrency: 2\n  proxyMetadata:\n    A: b\n...\n",
        "'concurrency': \"2\"\n? proxy_metadata\n: A: b",
        "concurrency: 2 # ü 😀\nproxyMetadata:\n  A: >-\n    b\n",
    ],
)
def test_yaml_and_json_say_the_same(text: str) -> None:
    assert parse(text) == {"concurrency": "2", "proxyMetadata": {"A": "b"}}


def test_a_field_has_its_name_in_json_or_in_protobuf() -> None:
    text = "interception_mode: NONE\ndiscoveryAddress: a\nfile_flush_min_size_kb: 1"
    assert parse(text) == {
        "interceptionMode": "NONE",
        "discoveryAddress": "a",
        "fileFlushMinSizeKb": "1",
    }


def test_lists_and_escapes_are_read() -> None:
    assert parse('extraStatTags: [a, "\\u0062"]\n"\\x61": {b: [{c: d}]}') == {
        "extraStatTags": ["a", "b"],
        "a": {"b": [{"c": "d"}]},
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: &x b\nc: *x",
        "a: &x b",
        "<<: {interceptionMode: NONE}",
        "proxyMetadata: {<<: {DRY_RUN: 'true'}}",
        "interceptionMode: !!binary Tk9ORQ==",
        "!!map {a: b}",
        "! a: b",
        "a: b\na: c",
        "proxyMetadata: {A: b, A: c}",
        "interception_mode: NONE\ninterceptionMode: NONE",
        "a: b\n---\nc: d",
        "%YAML 1.1\n---\na: b",
        "%TAG ! tag:x,2000:\n---\na: b",
        "[a, b]",
        "a",
        "null",
        "{[a]: b}",
        "{{a: b}: c}",
        "{a: b",
        "a: b: c",
        "\ta: b",
        "a: \x07",
        "a: \ud800",
        "\x00",
        "@",
        "---",
    ],
)
def test_what_may_be_read_in_two_ways_is_not_read_at_all(text: str) -> None:
    assert parse(text) is None
    assert holding(text) is None


@pytest.mark.parametrize("unit", ["[", "{a: ", "- ", "? ", "a: {b: [", " " * 2 + "- "])
@pytest.mark.parametrize("count", [100, 8_000, 100_000])
def test_a_hostile_text_neither_crashes_nor_keeps_busy(unit: str, count: int) -> None:
    started = time.monotonic()
    assert parse(unit * count) is None
    assert holding(unit * count) is None
    assert time.monotonic() - started < 1


def test_a_text_that_is_longer_than_any_is_not_read() -> None:
    assert parse("a: b #" + "x" * 32_000) == {"a": "b"}
    assert parse("a: b #" + "x" * 33_000) is None


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        (None, f"{HOLD}: true"),
        ("", f"{HOLD}: true"),
        ("# later", f"{HOLD}: true\n# later"),
        ("{}", f'{{"{HOLD}": true}}'),
        ('{"a": 1.50, "b": [yes]}', f'{{"{HOLD}": true, "a": 1.50, "b": [yes]}}'),
        ("{a: b} # ü", f'{{"{HOLD}": true, a: b}} # ü'),
        ("a: 010\nb: !x\n", None),
        ("a: 010 # octal\n", f"{HOLD}: true\na: 010 # octal\n"),
        ("# ü 😀\n  a:\n  - b\n", f"# ü 😀\n  {HOLD}: true\n  a:\n  - b\n"),
        ("--- {a: b}", f'--- {{"{HOLD}": true, a: b}}'),
        (f"{HOLD}: false", None),
        ("hold_application_until_proxy_starts: false", None),
        (f'{{"{HOLD}": null}}', None),
        ("no mapping", None),
    ],
)
def test_the_wait_for_the_proxy_is_merged_in(text: str | None, merged: str | None) -> None:
    assert holding(text) == merged


keys = st.sampled_from(("concurrency", "drain_duration", "meshId", "x y", "ü", "'", "#", ""))
leaves = st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(("yes", "1:30", "~"))
configs = st.dictionaries(keys, leaves | st.lists(leaves) | st.dictionaries(keys, leaves))


@given(configs, st.booleans(), st.sampled_from((None, True, False)))
def test_whatever_is_merged_keeps_what_was_said(
    config: dict[str, object], sort: bool, flow: bool | None
) -> None:
    text = yaml.safe_dump(config, sort_keys=sort, default_flow_style=flow, allow_unicode=True)
    merged = holding(text)
    if merged is None:
        return  # a text that PyYAML tags, or that has two names of one field
    assert yaml.safe_load(merged) == {**yaml.safe_load(text), HOLD: True}
    assert holding(merged) is None
