"""Writes CEL, the language of the API server's own policies.

The expressions judge a new pod as it is stored, `object`. They must run on Kubernetes 1.30, which
knows no variables in a webhook's conditions, so each expression stands alone.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

#: The pod's parts. A field that is missing is empty.
LABELS = "object.metadata.?labels.orValue({})"
ANNOTATIONS = "object.metadata.?annotations.orValue({})"
VOLUMES = "object.spec.?volumes.orValue([])"
#: The lists of containers that a new pod can have.
LISTS = ("initContainers", "containers")


class Rule(NamedTuple):
    """A check in CEL."""

    #: Its violations: a list of rows.
    rows: str
    #: True for the pods of which it finds the same as policy. Empty means all.
    decidable: str = ""


class Terms(NamedTuple):
    """What a check must know of a mesh to write its expression."""

    mesh: str
    #: The names of the mesh's containers, by the list in which they are.
    containers: Mapping[str, Collection[str]]


def text(value: str) -> str:
    """Return a string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def pattern(value: str) -> str:
    """Return a regular expression that must match a whole value, as a raw string literal.

    Raise ValueError for one with a quote, which such a literal can't have.
    """
    if "'" in value:
        raise ValueError(f"a quote in the pattern {value}")
    return f"r'^(?:{value})$'"


def listed(values: Iterable[str]) -> str:
    """Return a list literal of strings."""
    return f"[{', '.join(map(text, values))}]"


def members(name: str) -> str:
    """Return the containers of one of the pod's lists."""
    return f"object.spec.?{name}.orValue([])"


def row(field: str, reason: str, fix: str) -> str:
    """Return a violation, as a list of its field, its reason and its fix: all are expressions."""
    return f"[{field}, {reason}, {fix}]"


def workload(terms: Terms, name: str) -> str:
    """Return the condition that a container `c` of a list is the workload's, and not the mesh's."""
    ours = sorted(terms.containers.get(name, ()))
    return f"!(c.name in {listed(ours)})" if ours else "true"


def rows(terms: Terms, condition: str, inner: str, reason: str, fix: str) -> str:
    """Return a row for each workload container `c` for which a condition is true.

    `inner` is the field in the container, as the content of a literal; `reason` and `fix` are
    expressions.
    """
    parts = []
    for name in LISTS:
        field = f"'spec.{name}[' + c.name + '].{inner}'"
        where = f"{workload(terms, name)} && ({condition})"
        parts.append(f"{members(name)}.map(c, {where}, {row(field, reason, fix)})")
    return " + ".join(parts)


def each(condition: str) -> str:
    """Return whether a condition is true for each container `c`."""
    return every(*(f"{members(name)}.all(c, {condition})" for name in LISTS))


def each_workload(terms: Terms, condition: str) -> str:
    """Return whether a condition is true for each workload container `c`."""
    return every(
        *(f"{members(name)}.all(c, !({workload(terms, name)}) || ({condition}))" for name in LISTS)
    )


def reason(fixed: str, values: str) -> str:
    """Return a reason with its values in parentheses; `values` is an expression."""
    return f"{text(fixed + ' (')} + {values} + ')'"


def is_shown(value: str) -> str:
    """Return whether messages show a value as it is, as they do with short, printable ones."""
    return f"{value}.matches(r'^(?:[!-~](?:[ -~]{{0,78}}[!-~])?)?$')"


def capabilities(names: Collection[str]) -> str:
    """Return Linux capabilities as a list, with and without their prefix."""
    return listed(sorted(f"{prefix}{name}" for name in names for prefix in ("", "CAP_")))


def every(*conditions: str) -> str:
    """Return the conjunction of conditions."""
    return " && ".join(f"({one})" for one in conditions)


def some(*conditions: str) -> str:
    """Return the disjunction of conditions."""
    return " || ".join(f"({one})" for one in conditions)
