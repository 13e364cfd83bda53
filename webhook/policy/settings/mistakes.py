"""The message for a mistake in a settings file: what is wrong, where, and how to fix it.

msgspec reports the place of a mistake, but hardly what would be valid there. The path leads to the
type and the value, from which the message is made.
"""

import datetime
import difflib
import re
from collections.abc import Iterable
from typing import Any

from msgspec import inspect

from webhook.policy.words import printable, shortened

#: The key of `Meta(extra=…)` with the description of a type that has a pattern.
FORM = "form"

#: The path at the end of msgspec's messages: `$.exemptions[0].until`, `[...]` for any key.
_PATH = re.compile(r" - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_EMPTY = "must not be empty"
#: A value is shown no longer than this.
_SHOWN = 61


def unknown(what: str, given: Any, path: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest and all known names."""
    names = sorted(known)
    near = nearest(str(given), names)
    hint = f"did you mean `{near}`? Allowed" if near else "allowed"
    return f"unknown {what} {_quoted(given)} - at `{path}`; {hint}: {', '.join(names)}"


def nearest(given: str, known: Iterable[str]) -> str:
    """Return the known name nearest to a misspelled one; empty if none is near."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), folded, n=1)
    return folded[near[0]] if near else ""


def shown(value: Any) -> str:
    """Return a value, printable and not too long."""
    return printable(shortened(str(value), _SHOWN))


def explain(message: str, document: Any, root: type, checks: Iterable[str]) -> str:
    """Return msgspec's `message` in plain words. `document` should be a `root`.

    `checks` are the existing ids.
    """
    node, value, path = inspect.type_info(root), document, "settings"
    # The message also contains the user's keys. Only known keys may be read as a path.
    found = None if _unknown_keys(node, value) else _PATH.search(message)
    for name, index in _STEP.findall(found["path"]) if found else ():
        node = _plain(node)
        if isinstance(node, inspect.StructType):
            node = next(field.type for field in node.fields if field.encode_name == name)
            value, path = value[name], f"{path}.{name}"
        elif isinstance(node, inspect.ListType):
            node, value, path = node.item_type, value[int(index)], f"{path}[{index}]"
        elif isinstance(node, inspect.DictType):
            node = node.value_type
            key = next(key for key, inner in value.items() if not _fits(_plain(node), inner))
            value, path = value[key], f"{path}.{shown(key)}"
    return _words(_form(node), _plain(node), value, path, checks)


def _words(form: str, node: inspect.Type, value: Any, path: str, checks: Iterable[str]) -> str:
    """Return what is wrong with a value of a type."""
    if isinstance(node, inspect.StructType | inspect.DictType) and isinstance(value, dict):
        return _keys(node, value, path)
    if isinstance(node, inspect.LiteralType) and value is not None:
        return unknown("value", value, path, [str(known) for known in node.values])
    if isinstance(node, inspect.StrType) and isinstance(value, str) and node.pattern and not form:
        return unknown("check", value, path, checks)
    what, fix = _leaf(form, node, value)
    return f"{what} - at `{path}`{fix and f'; {fix}'}"


def _leaf(form: str, node: inspect.Type, value: Any) -> tuple[str, str]:
    """Return what is wrong with a value that has no keys, and its fix if that is clear."""
    if value is None:
        return _EMPTY, "set it, or remove it"
    if isinstance(node, inspect.DateType):
        return f"{_quoted(value)} is not a date", "write it as 2027-01-31"
    if isinstance(node, inspect.StrType) and isinstance(value, str):
        return (f"{_quoted(value)} is invalid", f"write {form}") if form else (_EMPTY, "")
    if isinstance(node, inspect.ListType) and isinstance(value, list):
        return _EMPTY, "give at least one"
    if isinstance(node, inspect.IntType) and type(value) is int:
        if node.ge is not None and value < node.ge:
            return f"{value} is too small", f"the minimum is {node.ge}"
        return f"{value} is too large", f"the maximum is {node.le}"
    return f"must be {_NAMES[type(node)]}, not {_kind(value)}", _fix(form, node, value)


def _keys(node: inspect.StructType | inspect.DictType, value: dict[Any, Any], path: str) -> str:
    """Return what is wrong with the keys of a mapping."""
    not_text = next((key for key in value if not isinstance(key, str)), None)
    if not_text is not None:
        return f"the key {_quoted(not_text)} must be text - at `{path}`; put it into quotes"
    known = {field.encode_name: field for field in getattr(node, "fields", ())}
    unknown_keys = _unknown_keys(node, value)
    if unknown_keys:
        message = unknown("setting", unknown_keys[0], path, known)
        if path == "settings" and "settings" in value:
            message += ". If this is a Helm values file, pass only the part under `settings:`"
        return message
    missing = next(f for name, f in known.items() if f.required and name not in value)
    about = _described(missing.type)
    return f"`{missing.encode_name}` is missing - at `{path}`; add it{about and f': {about}'}"


def _unknown_keys(node: inspect.Type, value: Any) -> list[Any]:
    """Return the keys of a mapping that its type does not know."""
    if not isinstance(node, inspect.StructType) or not isinstance(value, dict):
        return []
    return [key for key in value if key not in {field.encode_name for field in node.fields}]


def _fix(form: str, node: inspect.Type, value: Any) -> str:
    """Return the fix for a value of a wrong type, if it is clear."""
    if isinstance(node, inspect.StructType):
        return f"start with a key, for example `{node.fields[0].encode_name}:`"
    if isinstance(node, inspect.StrType) and not isinstance(value, list | dict):
        return f"write {form or 'it in quotes'}"
    if isinstance(node, inspect.ListType) and isinstance(value, str):
        return f"write [{shown(value)}]"
    if isinstance(node, inspect.BoolType | inspect.IntType) and isinstance(value, str):
        return "write it without quotes" if re.fullmatch(r"\d+|true|false", value) else ""
    return ""


def _fits(node: inspect.Type, value: Any) -> bool:
    """Return whether a value of a mapping has the type: text or a named value."""
    return value in node.values if isinstance(node, inspect.LiteralType) else type(value) is str


def _plain(node: inspect.Type) -> inspect.Type:
    """Return the type without its annotations, and without null if it may be null."""
    while isinstance(node, inspect.Metadata | inspect.UnionType):
        node = node.type if isinstance(node, inspect.Metadata) else node.types[0]
    return node


def _form(node: inspect.Type) -> str:
    extra = node.extra if isinstance(node, inspect.Metadata) else None
    return str((extra or {}).get(FORM, ""))


def _described(node: inspect.Type) -> str:
    schema = node.extra_json_schema if isinstance(node, inspect.Metadata) else None
    text = str((schema or {}).get("description", "")).rstrip(".")
    return text[:1].lower() + text[1:]


_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.StructType: "a mapping",
    inspect.DictType: "a mapping",
}
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
    (datetime.date, "a date"),
)


def _kind(value: Any) -> str:
    return next((name for kinds, name in _KINDS if isinstance(value, kinds)), "something else")


def _quoted(value: Any) -> str:
    return f"`{shown(value)}`"
