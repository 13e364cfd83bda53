"""Renders the stand-in injector's patch from text templates, as Linkerd does.

`linkerd_containers.yaml.j2` is YAML text of the containers. `linkerd_patch.json.j2` is JSON text of
the patch, with the parsed containers. As in Linkerd, several values are pasted without quotes, so
they can change the text around them. tests/standins/README.md lists them, and describes the
differences to Linkerd's result.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

Json = dict[str, Any]


def render(name: str, **values: Any) -> str:
    """Return the rendered text of a template in this folder."""
    return _TEMPLATES.get_template(name).render(**values)


class _Loader(yaml.CSafeLoader):
    """Reads YAML as Linkerd does: the last of equal keys counts; 1:30 and a date are strings."""


_NUMBERS = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _NUMBERS if tag.endswith(":int") else pattern)
        for tag, pattern in resolvers
        if not tag.endswith(":timestamp")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


@functools.lru_cache(64)
def _container(text: str) -> str:
    """Return the container as JSON. If the text is no mapping, return Helm's error object."""
    try:
        container = yaml.load(text, _Loader)
        if not isinstance(container, dict):
            return json.dumps({"Error": "not a mapping"})
        return json.dumps(container)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        return json.dumps({"Error": str(error)})


def _quote(value: Any) -> str:
    """Return the value as JSON that is also YAML, which allows only printable characters."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _present(values: Mapping[str, Any]) -> Json:
    """Return the entries that are set."""
    return {name: value for name, value in values.items() if value}


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters |= {"container": _container, "quote": _quote, "present": _present}
