"""The doctor's findings: each module describes one cause that keeps new pods out of their mesh.

A module has `FINDING`, the data for output and docs, and `find`, which yields an occurrence for
each place in a namespace where the finding applies. To add a finding, add a module.

Some modules have `repair`, which yields changes that fix the finding. A repair changes only the
labels and objects of mendix-mesh, and labels and annotations of a namespace whose meaning is
unambiguous. It never makes a namespace less protected.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import msgspec

from webhook.cluster.doctor.facts import Facts, Place

#: error: pods are not meshed, or not created at all. warning: some of them, or soon.
Severity = Literal["error", "warning"]


class Occurrence(NamedTuple):
    """One place where a finding applies."""

    #: What was found, with the object's name.
    text: str
    #: Overrides the severity of the finding.
    severity: Severity | None = None
    #: Overrides the fix of the finding: of several, the one that applies here.
    fix: str = ""


class FindingRule(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a finding."""

    id: str
    severity: Severity
    #: `unknown` stands for namespaces that are not enrolled, or whose mesh label has another value.
    meshes: tuple[str, ...] = ("linkerd", "istio", "ambient")
    #: What the finding means for the pods.
    means: str
    #: How to fix it. An occurrence can say which of several ways applies.
    fix: str
    #: The ids of findings that can cause this one. If one of them is there, too, it comes first.
    because: tuple[str, ...] = ()
    #: Where the rule comes from: code or documentation of the mesh or of Kubernetes.
    source: str


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A safe change that fixes a finding, as `doctor --fix` applies it."""

    #: The id of the finding.
    id: str
    #: What changes, in words.
    what: str
    #: The API path of the object, and a JSON Patch for it. The patch first tests the old value.
    where: str
    patch: list[dict[str, Any]]


FindOccurrences = Callable[[Facts, Place], Iterator[Occurrence]]
FindRepairs = Callable[[Facts, Place], Iterator[Repair]]


class FindingEntry(NamedTuple):
    """A finding: its description, the function that detects it, and the one that repairs it."""

    rule: FindingRule
    find: FindOccurrences
    #: None if doctor can't fix the finding.
    repair: FindRepairs | None = None


@cache
def all_findings() -> Mapping[str, FindingEntry]:
    """Return every finding by its id.

    Raises `RuntimeError` if a module is not named after its finding.
    """
    entries: dict[str, FindingEntry] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = import_module(f"{__name__}.{module.name}")
        rule: FindingRule = loaded.FINDING
        if rule.id.replace("-", "_") != module.name:
            raise RuntimeError(f"{rule.id} must live in {rule.id.replace('-', '_')}.py")
        entries[rule.id] = FindingEntry(rule, loaded.find, getattr(loaded, "repair", None))
    return entries


def replaced(label: str, value: str, wanted: str, kind: str = "labels") -> list[dict[str, Any]]:
    """Return a JSON Patch that replaces the value of a label or an annotation."""
    where = pointer("metadata", kind, label)
    return [
        {"op": "test", "path": where, "value": value},
        {"op": "replace", "path": where, "value": wanted},
    ]


def pointer(*keys: str | int) -> str:
    """Return the JSON Pointer (RFC 6901) for these keys."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in keys)
