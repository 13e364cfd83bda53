"""Recent denials of the webhook, from the Events of the controllers that create pods.

If a person's request is denied, there is no Event, because the person sees the message in the
terminal. The API server keeps Events for an hour by default.
"""

import datetime
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.policy import checks

#: The Event reason for a pod that could not be created (ReplicaSet, StatefulSet, Job and others).
_REASON = "FailedCreate"
#: The maximum number of Events that are read.
MOST_EVENTS = 1_000
_PAGE = 250
_DENIED = re.compile(
    r'admission webhook "(?P<webhook>[a-z0-9.-]+)\.mendix-mesh\.io" denied the request: ?'
    r"(?P<text>.*)",
    re.DOTALL,
)
#: A line of a denial as written by `policy.messages.table`: check, field, and the rest.
_LINE = re.compile(r"\s+(?P<check>[a-z][a-z0-9-]*)  +(?:(?P<field>\S+(?: \S+)*)  +)?(?P<rest>\S.*)")


class Cause(NamedTuple):
    """One reason for the denial of a pod."""

    check: str
    field: str
    text: str
    #: Whether this version has a check of that name.
    is_known: bool


class Denial(NamedTuple):
    """A denial of a controller's pods, and how often it occurred."""

    namespace: str
    kind: str
    name: str
    #: The first parts of the webhook's name, like `linkerd.enforce`.
    webhook: str
    first: datetime.datetime | None
    last: datetime.datetime | None
    times: int
    #: The first line: the pod and its mesh.
    subject: str
    causes: list[Cause]


class Denials(NamedTuple):
    """The denials, newest first; and whether there were more Events than were read."""

    all: list[Denial]
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


def read(cluster: Cluster) -> Denials:
    """Read the denials of all namespaces. Raise `ClusterError`."""
    found: list[Denial] = []
    seen = 0
    for page in cluster.pages(path("v1", "events"), fields=f"reason={_REASON}", size=_PAGE):
        for raw in page.items:
            denial = parse(raw)
            if denial:
                found.append(denial)
        seen += len(page.items)
        if seen >= MOST_EVENTS and page.remaining:
            return Denials(_newest_first(found), cut=True)
    return Denials(_newest_first(found), cut=False)


def parse(raw: msgspec.Raw | bytes) -> Denial | None:
    """Return the denial in an Event; None if the Event has another cause."""
    try:
        event = msgspec.json.decode(raw, type=_Event)
    except msgspec.MsgspecError:
        return None
    found = _DENIED.search(event.message)
    if found is None:
        return None
    subject, *lines = found["text"].splitlines() or [""]
    series = event.series or _Series()
    return Denial(
        namespace=event.involved_object.namespace,
        kind=event.involved_object.kind,
        name=event.involved_object.name,
        webhook=found["webhook"],
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
            # The API server cuts the text of an Event at 1,024 characters.
            yield Cause("", "", line.strip(), is_known=False)


def _newest_first(found: list[Denial]) -> list[Denial]:
    never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted(found, key=lambda one: one.last or never, reverse=True)
