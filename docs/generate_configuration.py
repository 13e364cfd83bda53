"""Write docs/configuration.md from the settings' own types.

`make docs` runs it, as `python -m docs.generate_configuration`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from webhook.policy import settings

PAGE = Path(__file__).parent / "configuration.md"

_HEAD = """\
# Configuration

<!-- Written by `make docs` (docs/generate_configuration.py) from webhook/policy/settings. -->

You configure mendix-mesh in three places:

| where | who can change it | what it decides |
|---|---|---|
| labels of a namespace | users who can label it. You can \
[limit who may leave enforcement](#settingsleaveenforcement) | \
[its mesh and mode](install.md#enroll-a-namespace) |
| the chart's values | the platform's admins | \
[how the server runs](../charts/mendix-mesh/README.md#values), \
and which namespaces are enrolled by name |
| `settings:` in the chart's values | the platform's admins | how pods are judged. \
This page lists these settings |

- A pod has no settings of its own. But its author chooses its labels, which each `selector` \
matches.
- Helm and the server reject a setting that does not exist.
- `mendix-mesh discover --settings` prints the settings that \
[match your mesh](day-2.md#settings-that-match-the-mesh).
- `mendix-mesh review --settings FILE` reads the same settings, with or without the key \
`settings:` around them.
- If you change a setting with Helm, the servers restart one after the other.

```yaml
settings:
  linkerd:
    inboundPolicy: all-authenticated
  exemptions:
    - checks: [host-network]
      namespaces: [mendix-monitoring]
      selector:
        matchLabels: {app: node-exporter}
      reason: reads the node's counters, serves nothing
      until: 2027-06-30
```
"""

# Where a structure is found in the document, and under which heading it is explained.
_SECTIONS = {
    "Settings": "settings",
    "Linkerd": "settings.linkerd",
    "Istio": "settings.istio",
    "Ambient": "settings.ambient",
    "Annotation": "settings.linkerd.annotations[]",
    "Ingress": "settings.ingress",
    "LevelChange": "settings.levels[]",
    "Allow": "settings.allow[]",
    "Exemption": "settings.exemptions[]",
    "LeaveEnforcement": "settings.leaveEnforcement",
}

_KINDS = {
    "boolean": "true or false",
    "date": "a date",
    "integer": "a number",
    "null": "null",
    "string": "a string",
}


def page() -> str:
    """The whole page."""
    definitions = settings.schema()["$defs"]
    sections = ("\n".join(_section(name, definitions[name])) for name in _SECTIONS)
    return _HEAD + "\n" + "\n\n".join(sections) + "\n"


def _section(name: str, definition: dict[str, Any]) -> Iterator[str]:
    yield f"## {_SECTIONS[name]}"
    yield ""
    yield " ".join(definition["description"].split())
    yield ""
    yield "| key | type | default | description |"
    yield "|---|---|---|---|"
    # A schema does not tell all defaults; the structure does.
    for own in msgspec.structs.fields(getattr(settings, name)):
        field = definition["properties"][own.encode_name]
        yield f"| `{own.encode_name}` | {_kind(field)} | {_default(own)} | {_what(field)} |"


def _default(own: msgspec.structs.FieldInfo) -> str:
    if own.required:
        return "required"
    value = own.default_factory() if own.default is msgspec.NODEFAULT else own.default
    plain = msgspec.to_builtins(value)
    return "" if isinstance(value, msgspec.Struct) else f"`{json.dumps(plain)}`"


def _what(field: dict[str, Any]) -> str:
    structure = _structure(field)
    if structure in _SECTIONS and "items" not in field:
        return f"[{_SECTIONS[structure]}]({_anchor(structure)})"
    return str(field.get("description", ""))


def _structure(field: dict[str, Any]) -> str:
    """The structure that a field is one of; empty if it is not one."""
    return str(field.get("$ref", "")).rpartition("/")[2]


def _kind(field: dict[str, Any]) -> str:
    """Return the type of a field, in words."""
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if structure := _structure(field):
        return "a label selector" if structure == "Selector" else "a mapping"
    if field["type"] == "array":
        items = _structure(field["items"])
        return f"a list of [{_SECTIONS[items]}]({_anchor(items)})" if items else "a list of strings"
    if field["type"] == "object":
        return f"a mapping to one of {_kind(field['additionalProperties'])}"
    if "\\d" in field.get("pattern", ""):
        return "ports and ranges, as `80,8000-8100`"
    return _KINDS[field.get("format", field["type"])]


def _anchor(structure: str) -> str:
    return "#" + _SECTIONS[structure].replace(".", "").replace("[]", "").lower()


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
