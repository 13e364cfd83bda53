"""Would a pod that is created now be meshed, and if not, why: the findings, one file each.

A module in this package is a finding: it has `SYMPTOM`, the data that output and docs are made of,
and `find`, which yields its evidence in a namespace. Adding one is adding a file. Some have `fix`,
which yields the changes that mend it: of our own labels and objects alone, and of marks of a
namespace whose meaning is plain; never what would make a namespace less strict.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor.facts import Look, Place

#: error: pods are not meshed, or not created at all. warning: some of them, or soon.
Severity = Literal["error", "warning"]


class Evidence(NamedTuple):
    """What shows that a finding is there."""

    text: str
    #: Another severity than the finding's own.
    severity: Severity | None = None


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
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


Find = Callable[[Look, Place], Iterator[Evidence]]
Mend = Callable[[Look, Place], Iterator[Fix]]


class Entry(NamedTuple):
    """A finding's data, the function that looks for it, and the one that mends it, if any can."""

    symptom: Symptom
    find: Find
    fix: Mend | None = None


class Finding(msgspec.Struct, kw_only=True):
    """Something that was found, once for all the namespaces that it concerns."""

    id: str
    severity: Severity
    namespaces: list[str]
    evidence: str
    means: str
    mend: str


class Unseen(msgspec.Struct, kw_only=True):
    """Something that could not be looked for, and why."""

    id: str
    namespaces: list[str]
    why: str


class Examined(msgspec.Struct, kw_only=True):
    """A namespace, and whether a pod that is created in it now would be meshed."""

    name: str
    mesh: str
    mode: str
    meshed: Literal["yes", "no", "unknown"]


class Diagnosis(msgspec.Struct, kw_only=True):
    """What the doctor has to say."""

    namespaces: list[Examined]
    findings: list[Finding]
    unseen: list[Unseen]
    #: What has been mended before this was found, in words.
    mended: list[str] = []

    @property
    def is_good(self) -> bool:
        """Whether nothing keeps pods out of the mesh, as far as was looked."""
        return not any(finding.severity == "error" for finding in self.findings)


@cache
def all_findings() -> Mapping[str, Entry]:
    """Every finding by its id; RuntimeError on a module whose name is not its finding's."""
    entries: dict[str, Entry] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = import_module(f"{__name__}.{module.name}")
        symptom: Symptom = loaded.SYMPTOM
        if symptom.id.replace("-", "_") != module.name:
            raise RuntimeError(f"{symptom.id} must live in {symptom.id.replace('-', '_')}.py")
        entries[symptom.id] = Entry(symptom, loaded.find, getattr(loaded, "fix", None))
    return entries


def examine(look: Look, places: Sequence[Place]) -> Diagnosis:
    """Look for every finding in every namespace; what is forbidden is told, and not fatal.

    Raises `ClusterError` where the cluster fails.
    """
    findings: dict[tuple[str, str], Finding] = {}
    unseen: dict[tuple[str, str], Unseen] = {}
    for place in places:
        for symptom, find, _ in all_findings().values():
            if place.mesh.name not in symptom.meshes:
                continue
            try:
                for evidence in find(look, place):
                    _add(findings, symptom, evidence, place.name)
            except RefusedError as error:
                # A namespace may be deleted while it is looked at.
                if error.code not in (403, 404):
                    raise
                one = Unseen(id=symptom.id, namespaces=[], why=str(error))
                unseen.setdefault((symptom.id, str(error)), one).namespaces.append(place.name)
    return Diagnosis(
        namespaces=[_examined(look, place) for place in places],
        findings=sorted(findings.values(), key=lambda one: (one.severity, one.id)),
        unseen=list(unseen.values()),
    )


def fixes(look: Look, places: Sequence[Place]) -> list[Fix]:
    """What can be mended in these namespaces; what may not be looked at is left out.

    Raises `ClusterError` where the cluster fails.
    """
    found: dict[str, Fix] = {}
    for place in places:
        for symptom, _, fix in all_findings().values():
            if fix is None or place.mesh.name not in symptom.meshes:
                continue
            try:
                found |= {one.what: one for one in fix(look, place)}
            except RefusedError as error:
                if error.code not in (403, 404):
                    raise
    return list(found.values())


def apply(cluster: Cluster, fix: Fix, *, dry_run: bool) -> list[str]:
    """Mend; gives the API server's warnings. Raises `ClusterError`, also where things changed."""
    _, warnings = cluster.patch(fix.where, fix.patch, how="json", dry_run=dry_run)
    return warnings


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


def _add(
    findings: dict[tuple[str, str], Finding], symptom: Symptom, evidence: Evidence, name: str
) -> None:
    found = Finding(
        id=symptom.id,
        severity=evidence.severity or symptom.severity,
        namespaces=[],
        evidence=evidence.text,
        means=symptom.means,
        mend=symptom.mend,
    )
    known = findings.setdefault((symptom.id, evidence.text), found)
    if name not in known.namespaces:
        known.namespaces.append(name)


def _examined(look: Look, place: Place) -> Examined:
    mode = place.enrolled.mode if place.enrolled else ""
    meshed: Literal["yes", "no", "unknown"] = "no"
    if place.mesh.name != "unknown":
        try:
            meshed = "yes" if look.probe(place).is_meshed else "no"
        except RefusedError:
            meshed = "unknown"
    name = place.enrolled.mesh if place.enrolled else ""
    return Examined(name=place.name, mesh=name, mode=mode, meshed=meshed)
