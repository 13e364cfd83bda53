"""Istio's `proxy.istio.io/config`: YAML or JSON in an annotation, read like Go's decoders read it.

Scalars stay strings; the field decides their type. Texts that two parsers may read differently, or
that can grow without limit, are rejected as unreadable: aliases, tags, merge keys, repeated keys,
deep nesting.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

HOLD = "holdApplicationUntilProxyStarts"
#: The limits in characters and nesting levels, far above those of real configurations. The time of
#: libyaml is quadratic in the depth, and PyYAML's composer crashes on very deep texts.
_LONGEST, _DEEPEST = 32_768, 32
#: The maximum length of a text whose result is cached for long. The result takes many times as much
#: memory.
_LONGEST_REMEMBERED = 4_096

#: Interception modes that redirect traffic, by name and number, and the texts for an unset mode.
CAPTURING = ("REDIRECT", "TPROXY", "0", "1", "", "~", "null")

Config = Mapping[str, Any]


class _UnreadableError(ValueError):
    """Raised for a text that is no plain mapping, or that has half a surrogate pair."""


def parse(text: str | None) -> Config | None:
    """Return the fields by JSON name; empty for empty text, None if it can't be read.

    A field can be `interceptionMode` or `interception_mode`; both at once are an error.
    """
    text = text or ""
    return (_remembered if len(text) <= _LONGEST_REMEMBERED else _latest)(text)


def _parse(text: str) -> Config | None:
    try:
        return _read(text)[0]
    except (ValueError, yaml.YAMLError):
        return None


_remembered = functools.lru_cache(maxsize=64)(_parse)
#: Long texts are cached only during one review, which reads the annotation and the variable.
_latest = functools.lru_cache(maxsize=4)(_parse)


def holding(text: str | None) -> str | None:
    """Return the text with `holdApplicationUntilProxyStarts` added and nothing else changed.

    Return None if it is already set. Also return None if the text can't be read, because the
    injector reports this better.
    """
    text = text or ""
    try:
        config, root = _read(text)
    except (ValueError, yaml.YAMLError):
        return None
    if HOLD in config:
        return None
    start = root.start_mark if root else None
    if root is None or start is None:
        return f"{HOLD}: true\n{text}".rstrip("\n")
    if root.flow_style:
        at = start.index + 1
        added = f'"{HOLD}": true' + (", " if config else "")
    else:
        at = start.index
        added = f"{HOLD}: true\n{' ' * start.column}"
    merged = text[:at] + added + text[at:]
    return merged if parse(merged) == {**config, HOLD: "true"} else None


def _read(text: str) -> tuple[Config, yaml.MappingStartEvent | None]:
    """Return the fields, and the event that starts their mapping; None for an empty text."""
    if not text.strip():
        return {}, None
    if len(text) > _LONGEST:
        raise _UnreadableError
    events = yaml.parse(text, yaml.CBaseLoader)
    next(events)  # the stream's start
    document = next(events)
    if isinstance(document, yaml.StreamEndEvent):
        return {}, None
    if not isinstance(document, yaml.DocumentStartEvent) or document.version or document.tags:
        raise _UnreadableError
    root = next(events)
    if not isinstance(root, yaml.MappingStartEvent):
        raise _UnreadableError
    found = _value(root, events, 0)
    next(events)  # the document's end
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise _UnreadableError
    fields = {_json_name(key): value for key, value in found.items()}
    if len(fields) < len(found):
        raise _UnreadableError
    return fields, root


def _value(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Any:
    if depth > _DEEPEST or not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
        raise _UnreadableError
    if event.anchor or event.tag:
        raise _UnreadableError
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    if isinstance(event, yaml.SequenceStartEvent):
        return [_value(item, events, depth + 1) for item in _until(yaml.SequenceEndEvent, events)]
    found: dict[str, Any] = {}
    for key in _until(yaml.MappingEndEvent, events):
        name = _value(key, events, depth + 1)
        if not isinstance(name, str) or name in found or name == "<<":
            raise _UnreadableError
        found[name] = _value(next(events), events, depth + 1)
    return found


def _until(end: type[yaml.Event], events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    while not isinstance(event := next(events), end):
        yield event


def _json_name(name: str) -> str:
    """Return the JSON name of a protobuf field. A name without underscores is already one."""
    return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)
