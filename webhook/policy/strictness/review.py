"""Whether a change of the meshes' policy objects may be stored, where these are reviewed at all.

Judged, as everything, from the object alone: what it opens, and what an update takes back that kept
plaintext out. Levels, exemptions and the mode decide as they do for pods; at the level `advise`,
which is the default, nothing is refused.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Spot
from webhook.policy.settings import Settings
from webhook.policy.strictness import CLIENT_PLAINTEXT, PLAINTEXT_ACCEPTED, istio, linkerd, objects
from webhook.policy.validate import Mode, Verdict, weigh, worse
from webhook.policy.words import masked


class Look(NamedTuple):
    """How a kind is judged."""

    type: type[Any]
    check: Check
    #: Where an object opens something.
    openings: Callable[[Any, Settings], Iterable[Spot]]
    #: Where it keeps plaintext out: field, and for whom; an empty text is everyone.
    closures: Callable[[Any], Mapping[str, str]] = lambda _: {}
    #: Whether it, the first, is about nothing that its old self, the second, was not about.
    is_within: Callable[[Any, Any], bool] = lambda _now, _before: True


def _downgrades(rule: objects.DestinationRule, settings: Settings) -> Iterator[Spot]:
    return istio.downgrades(rule, settings.cluster_domain)


def _plain(find: Callable[[Any], Iterable[Spot]]) -> Callable[[Any, Settings], Iterable[Spot]]:
    return lambda obj, _: find(obj)


_ISTIO: Mapping[str, Look] = {
    "PeerAuthentication": Look(
        objects.PeerAuthentication,
        PLAINTEXT_ACCEPTED,
        _plain(istio.weaknesses),
        istio.strengths,
        istio.selects_within,
    ),
    "DestinationRule": Look(
        objects.DestinationRule, CLIENT_PLAINTEXT, _downgrades, is_within=istio.rules_within
    ),
}
_LINKERD: Mapping[str, Look] = {
    "Server": Look(
        objects.Server,
        PLAINTEXT_ACCEPTED,
        _plain(linkerd.of_server),
        linkerd.server_strengths,
        linkerd.serves_within,
    ),
    "ServerAuthorization": Look(
        objects.ServerAuthorization,
        PLAINTEXT_ACCEPTED,
        _plain(linkerd.of_server_authorization),
        is_within=linkerd.grants_within,
    ),
    "AuthorizationPolicy": Look(
        objects.AuthorizationPolicy,
        PLAINTEXT_ACCEPTED,
        _plain(linkerd.of_authorization_policy),
        is_within=linkerd.authorizes_within,
    ),
    "Namespace": Look(
        objects.Namespace,
        PLAINTEXT_ACCEPTED,
        _plain(linkerd.of_namespace),
        linkerd.namespace_strengths,
    ),
}
#: Mesh -> kind -> how it is judged. The chart sends no others.
KINDS: Mapping[str, Mapping[str, Look]] = {"istio": _ISTIO, "ambient": _ISTIO, "linkerd": _LINKERD}
_LOST = "no longer keeps plaintext out"


class Change(NamedTuple):
    """One change of a policy object; `old` is None where it is new."""

    kind: str
    namespace: str
    object: Any
    old: Any = None


def review(
    change: Change,
    mesh: str,
    mode: Mode,
    settings: Settings,
    *,
    today: datetime.date | None = None,
) -> Verdict:
    """Judge a change, of a kind that KINDS has for the mesh.

    An object that opened something before may keep it, for those for whom it did; what an update
    opens beyond that, or takes back of what it closed, counts.
    """
    look = KINDS[mesh][change.kind]
    found = _found(look, change.object, settings)
    if change.old is not None:
        if look.is_within(change.object, change.old):
            found = worse(found, _found(look, change.old, settings))
        found += _lost(look, change, {one.field for one in found})
    if not found:
        return Verdict("admitted", mesh, mode)
    name = change.object.metadata.name or "without a name"
    verdict = weigh(
        found,
        change.object.metadata.labels or {},
        today or datetime.date.today(),
        mesh,
        mode,
        settings,
        denies=True,
        subject=masked(f"{change.kind.lower()} {name}"),
        namespace=change.namespace,
    )
    return verdict.about("would weaken mutual TLS")


def _found(look: Look, obj: Any, settings: Settings) -> list[Violation]:
    return [look.check.violation(spot) for spot in look.openings(obj, settings)]


def _lost(look: Look, change: Change, told: set[str]) -> Iterator[Violation]:
    """What kept plaintext out before this update, and does so no longer."""
    now = look.closures(change.object)
    for field, who in look.closures(change.old).items():
        kept = now.get(field)
        if kept in ("", who) or field in told:
            continue
        yield look.check.violation(field, reason=_LOST, fix="leave it as it was")
