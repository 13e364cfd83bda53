"""Istio's `proxy.istio.io/config`: YAML or JSON in an annotation."""

import json
from typing import Any

import yaml

HOLD = "holdApplicationUntilProxyStarts"


def parse(text: str | None) -> dict[str, Any]:
    """The fields; nothing where the text is absent or not a mapping (the injector refuses that).

    Aliases are refused: a few nested ones would grow without bound.
    """
    if not text:
        return {}
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
            return {}
        parsed = yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def holding(text: str | None) -> str | None:
    """The text with `holdApplicationUntilProxyStarts` added and its other keys kept.

    None where there is nothing to do: it is set already, or the text can't be understood, which the
    injector will say better.
    """
    config = parse(text)
    if HOLD in config or (text and text.strip() and not config):
        return None
    try:
        return json.dumps({**config, HOLD: True}, default=str)
    except (ValueError, TypeError, RecursionError):
        return None
