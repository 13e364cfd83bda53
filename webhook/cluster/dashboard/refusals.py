"""What the webhook refused lately: the Events of the controllers that asked for the pods.

A person whom it refused has read why in the terminal, and leaves no Event. The API server keeps
Events for an hour, if not told otherwise.
"""

import datetime
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.policy import checks

#: What controllers call a pod that they could not create (ReplicaSet, StatefulSet, Job and others).
_REASON = "FailedCreate"
#: Events that are read.
MOST_EVENTS = 1_000
_PAGE = 250
_DENIED = re.compile(
    r'admission webhook "(?P<webhook>[a-z0-9.-]+)\.mendix-mesh\.io" denied the request: ?'
    r"(?P<text>.*)",
    re.DOTALL,
)
#: A line of a denial, as `policy.messages.table` writes it: check, field, and the rest.
_LINE = re.compile(r"\s+(?P<check>[a-z][a-z0-9-]*)  +(?:(?P<field>\S+(?: \S+)*)  +)?(?P<rest>\S.*)")


class Cause(NamedTuple):
    """One thing for which a pod was refused."""

    check: str
    field: str
    text: str
    #: Whether there is a check of that name here.
    is_known: bool


class Refusal(NamedTuple):
    """What one controller was refused, and how often."""

    namespace: str
    kind: str
    name: str
    #: The webhook's first names, as `linkerd.enforce`.
    webhook: str
    first: datetime.datetime | None
    last: datetime.datetime | None
    times: int
    #: The first line: which pod, of which mesh.
    subject: str
    causes: list[Cause]


class Refusals(NamedTuple):
    """The refusals, newest first; and whether there were more Events than were read."""

    all: list[Refusal]
    cut: bool


class _Object(msgspec.Struct, rename="camel"):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class _Series(msgspec.Struct, rename="camel"):
    count: int = 0
    last_observed_time: datetime.datetime | None = None


class _Event(msgspec.Struct, rename="camel"):
    involved_object: _Object = msgspec.field(default_factory=_Object)
    message: str = ""
    count: int | None = None
    first_timestamp: datetime.datetime | None = None
    last_timestamp: datetime.datetime | None = None
    event_time: datetime.datetime | None = None
    series: _Series | None = None


def read(cluster: Cluster) -> Refusals:
    """Read the refusals of all namespaces. Raises `ClusterError`."""
    found: list[Refusal] = []
    seen = 0
    for page in cluster.pages(path("v1", "events"), fields=f"reason={_REASON}", size=_PAGE):
        for raw in page.items:
            refusal = parse(raw)
            if refusal:
                found.append(refusal)
        seen += len(page.items)
        if seen >= MOST_EVENTS and page.remaining:
            return Refusals(_newest_first(found), cut=True)
    return Refusals(_newest_first(found), cut=False)


def parse(raw: msgspec.Raw | bytes) -> Refusal | None:
    """The refusal that an Event tells of; None where it tells of something else."""
    try:
        event = msgspec.json.decode(raw, type=_Event)
    except msgspec.MsgspecError:
        return None
    told = _DENIED.search(event.message)
    if told is None:
        return None
    subject, *lines = told["text"].splitlines() or [""]
    series = event.series or _Series()
    return Refusal(
        namespace=event.involved_object.namespace,
        kind=event.involved_object.kind,
        name=event.involved_object.name,
        webhook=told["webhook"],
        first=event.first_timestamp or event.event_time,
        last=series.last_observed_time or event.last_timestamp or event.event_time,
        times=series.count or event.count or 1,
        subject=subject.removesuffix(":"),
        causes=list(_causes(lines)),
    )


def _causes(lines: list[str]) -> Iterator[Cause]:
    known = checks.ids()
    for line in lines:
        match = _LINE.fullmatch(line)
        if match:
            check = match["check"]
            yield Cause(check, match["field"] or "", match["rest"], check in known)
        elif line.strip():
            # An Event is cut at 1,024 characters.
            yield Cause("", "", line.strip(), is_known=False)


def _newest_first(found: list[Refusal]) -> list[Refusal]:
    never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted(found, key=lambda one: one.last or never, reverse=True)
