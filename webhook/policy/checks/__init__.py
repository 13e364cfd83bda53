"""The checks, one file each: what is wrong with a pod, why it matters and how to fix it.

A module in this package is a check. It has `CHECK`, the data for messages and docs. `CHECK.asks`
names the method of `Mesh` that finds violations. A check that is the same for all meshes has a
function `find` instead, which yields an `Occurrence` for each place in the pod. Without either,
only the mesh's inputs violate it. To add a check, add a file.
"""

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import NamedTuple

import msgspec

from webhook.policy.cel import Rule, Terms
from webhook.policy.inputs import CHECK as INPUT
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Level, Occurrence
from webhook.policy.pod.workload import Pod
from webhook.policy.settings import Settings
from webhook.policy.words import masked, shortened

#: The longest value, in characters, and the most values that a message shows.
_LONGEST_VALUE, _MOST_VALUES = 80, 8
#: Characters of a field, with room for the longest key of an annotation.
_LONGEST_FIELD = 512
#: Characters, from outside, of a violation that is remembered.
_LONGEST_REMEMBERED = 512


class Violation(msgspec.Struct, frozen=True):
    """One thing that is wrong, in one place of one object."""

    check: str
    #: Path in the object, as `spec.containers[shop].securityContext.runAsUser`.
    field: str
    reason: str
    fix: str
    level: Level
    #: The offending values, for example ports. An update must not add to them.
    values: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a check except its code: texts, levels, meshes, source."""

    id: str
    #: `deny` denies the pod in mode enforce; `warning` warns in every mode.
    level: Level
    meshes: tuple[str, ...]
    #: The fields that it reads.
    fields: tuple[str, ...]
    reason: str
    fix: str
    #: Where the rule comes from: the code or documents of the mesh or of Kubernetes.
    source: str
    #: The method of `Mesh` that finds violations; empty if its module has a `find`.
    asks: str = ""
    #: Judged only if the proxy exists or must exist: on stored pods, not on templates.
    evidence: bool = False
    #: It finds missing work of an injector, and is left out if a denied input explains that.
    follows: bool = False
    #: Only an update can break it.
    updates_alone: bool = False
    #: A pod that breaks it can't have been injected, so "no proxy" would report it twice.
    explains_absence: bool = False
    #: It reports that the pod opts out, so an exempt pod needs no proxy. An exemption from a check
    #: of the proxy itself does not allow a pod without a proxy.
    excuses_absence: bool = False

    def violation(self, occurrence: Occurrence) -> Violation:
        """Return the violation for an occurrence, with the occurrence's own texts if it has any."""
        field, values, reason, fix, level = occurrence
        # Each value counts as one more character, or a million empty ones would be short.
        size = len(field) + len(reason) + (len(values) + sum(map(len, values)) if values else 0)
        return (_remembered if size <= _LONGEST_REMEMBERED else _violation)(
            self.id, field, values, reason or self.reason, fix or self.fix, level or self.level
        )


def _violation(
    check: str, field: str, values: tuple[str, ...], reason: str, fix: str, level: Level,
) -> Violation:  # fmt: skip
    text = f"{reason} ({_shown(values)})" if values else reason
    shown = masked(shortened(field, _LONGEST_FIELD))
    return Violation(check, shown, masked(text), fix, level, values)


#: Most pods that break a rule break the same one at the same place.
_remembered = lru_cache(maxsize=512)(_violation)


def _shown(values: Sequence[str]) -> str:
    shown = [shortened(value, _LONGEST_VALUE) for value in values[:_MOST_VALUES]]
    if len(values) > _MOST_VALUES:
        shown.append(f"and {len(values) - _MOST_VALUES} more")
    return ", ".join(shown)


#: Searches for a check's violations in a pod.
Look = Callable[[Pod], Iterable[Occurrence]]


class CheckEntry(NamedTuple):
    """A check, and the function of its module that searches for it in a pod of a mesh, if any."""

    check: Check
    find: Callable[[Mesh, Pod], Iterable[Occurrence]] | None
    #: The same search in CEL, for the API server itself, if CEL can express it.
    rule: Callable[[Terms], Rule] | None = None


@cache
def all_checks() -> Mapping[str, CheckEntry]:
    """Return every check by its id. Raise RuntimeError if a module's name is not its check's id."""
    entries: dict[str, CheckEntry] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = import_module(f"{__name__}.{module.name}")
        check: Check = loaded.CHECK
        if check.id.replace("-", "_") != module.name:
            raise RuntimeError(f"check {check.id} must live in {check.id.replace('-', '_')}.py")
        entries[check.id] = CheckEntry(
            check, getattr(loaded, "find", None), getattr(loaded, "rule", None)
        )
    return entries


def ids() -> frozenset[str]:
    """Return the ids of all checks."""
    return frozenset(all_checks())


@cache
def for_mesh(mesh: str) -> tuple[CheckEntry, ...]:
    """Return the checks that apply to a mesh."""
    return tuple(entry for entry in all_checks().values() if mesh in entry.check.meshes)


@lru_cache(maxsize=64)
def looks(mesh: Mesh) -> tuple[tuple[Check, Look | None], ...]:
    """Return the function for each check of a mesh; None for a check that only inputs violate."""
    return tuple(
        (check, partial(find, mesh) if find else _method(mesh, check))
        for check, find, _ in for_mesh(mesh.name)
    )


def any_denies(ids: Iterable[str], pod: Pod, settings: Settings) -> bool:
    """Return whether a check of inputs denies the pod: no level and no exemption allows it."""
    entries = all_checks()
    for check in ids:
        default = entries[check if check in entries else INPUT].check.level
        level = settings.level_of(check, default, pod.namespace, pod.labels)
        if level == "deny" and not settings.exemption(
            check, pod.namespace, pod.labels, pod.today
        ):  # fmt: skip
            return True
    return False


def _method(mesh: Mesh, check: Check) -> Look | None:
    """Return the method of a mesh that a check asks. Raise AttributeError on a wrong name."""
    return getattr(mesh, check.asks) if check.asks else None


@lru_cache(maxsize=256)
def finders(
    mesh: Mesh, *, evident: bool, update: bool
) -> tuple[tuple[Callable[[Occurrence], Violation], Look], ...]:
    """Return a function that makes violations, and one that searches for them, for each check.

    Checks that need evidence are included only if there must be some.
    """
    return tuple(
        (check.violation, look)
        for check, look in looks(mesh)
        if look and (evident or not check.evidence) and (update or not check.updates_alone)
    )
