"""What can keep a new pod out of its mesh, one file each.

A module in this package is a finding. It has `FINDING`, the data that output and docs are made of,
and `find`, which yields an occurrence for each place in a namespace where it holds. Adding one is
adding a file. Some have `fix`, which yields the repairs: of our own labels and objects alone, and
of labels and annotations of a namespace whose meaning is plain. A repair never opens a namespace.
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
    """What shows that a finding is there."""

    text: str
    #: Another severity than the finding's own.
    severity: Severity | None = None


class FindingRule(msgspec.Struct, frozen=True, kw_only=True):
    """What anyone will ever ask about a finding."""

    id: str
    severity: Severity
    #: `unknown` stands for namespaces that are not enrolled, or in no mesh that there is.
    meshes: tuple[str, ...] = ("linkerd", "istio", "ambient")
    #: What it means for the pods.
    means: str
    mend: str
    #: Where the rule comes from: the code or documents of the mesh or of Kubernetes.
    source: str


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A change that mends a finding: safe, and of what is ours."""

    id: str
    #: What is changed, in words.
    what: str
    #: The API path of the object, and a JSON Patch of it, which begins by testing what was seen.
    where: str
    patch: list[dict[str, Any]]


Find = Callable[[Facts, Place], Iterator[Occurrence]]
Mend = Callable[[Facts, Place], Iterator[Fix]]


class FindingEntry(NamedTuple):
    """A finding's data, the function that looks for it, and the one that mends it, if any can."""

    symptom: FindingRule
    find: Find
    fix: Mend | None = None


@cache
def all_findings() -> Mapping[str, FindingEntry]:
    """Every finding by its id; RuntimeError on a module whose name is not its finding's."""
    entries: dict[str, FindingEntry] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = import_module(f"{__name__}.{module.name}")
        symptom: FindingRule = loaded.FINDING
        if symptom.id.replace("-", "_") != module.name:
            raise RuntimeError(f"{symptom.id} must live in {symptom.id.replace('-', '_')}.py")
        entries[symptom.id] = FindingEntry(symptom, loaded.find, getattr(loaded, "fix", None))
    return entries


def replaced(label: str, value: str, wanted: str, kind: str = "labels") -> list[dict[str, Any]]:
    """The JSON Patch that gives a label, or an annotation, another value."""
    where = pointer("metadata", kind, label)
    return [
        {"op": "test", "path": where, "value": value},
        {"op": "replace", "path": where, "value": wanted},
    ]


def pointer(*keys: str | int) -> str:
    """A JSON Pointer."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in keys)
