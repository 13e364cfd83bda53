"""Whether a change of the meshes' policy objects may be stored, if their review is enabled.

Only the object is judged: what it opens, and what an update removes that closed it to plaintext.
Levels, exemptions and the mode apply as for pods.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from webhook.policy.checks import Check, Violation
from webhook.policy.mesh import Occurrence
from webhook.policy.meshes.linkerd import INBOUND_POLICY
from webhook.policy.plaintext import (
    CLIENT_PLAINTEXT,
    ENVOY_FILTER,
    PLAINTEXT_ACCEPTED,
    PROXY_CONFIG,
    istio,
    istio_destinations,
    linkerd,
    objects,
)
from webhook.policy.settings import Settings
from webhook.policy.validate import Mode, Verdict, weigh, worse
from webhook.policy.words import masked

#: Finds the places where an object opens something.
Find = Callable[[Any, Settings], Iterable[Occurrence]]


class PolicyRule(NamedTuple):
    """How a kind is judged."""

    type: type[Any]
    rules: tuple[tuple[Check, Find], ...]
    #: The fields that close it to plaintext, and for whom; an empty text means everyone.
    closures: Callable[[Any], Mapping[str, str]] = lambda _: {}
    #: Whether the new object applies to nothing to which its old version did not apply.
    is_within: Callable[[Any, Any], bool] = lambda _now, _before: True
    #: The annotations that are read. The spec and the labels always are, except a Namespace's.
    annotations: tuple[str, ...] = ()


def _accepts(find: Callable[[Any], Iterable[Occurrence]]) -> tuple[Check, Find]:
    return PLAINTEXT_ACCEPTED, lambda obj, _: find(obj)


def _sends(find: Callable[[Any], Iterable[Occurrence]]) -> tuple[Check, Find]:
    return CLIENT_PLAINTEXT, lambda obj, _: find(obj)


def _sends_in(find: Callable[[Any, str], Iterable[Occurrence]]) -> tuple[Check, Find]:
    """Return a rule that needs the cluster's domain."""
    return CLIENT_PLAINTEXT, lambda obj, settings: find(obj, settings.cluster_domain)


#: The rules that are the same for sidecars and for ztunnel.
_EITHER: Mapping[str, PolicyRule] = {
    "PeerAuthentication": PolicyRule(
        objects.PeerAuthentication,
        (_accepts(istio.weaknesses),),
        istio.strengths,
        istio.selects_within,
    ),
    "DestinationRule": PolicyRule(
        objects.DestinationRule, (_sends_in(istio.downgrades),), is_within=istio.rules_within
    ),
    "WorkloadGroup": PolicyRule(
        objects.WorkloadGroup, (_sends(istio_destinations.group_is_called_plainly),)
    ),
    "EnvoyFilter": PolicyRule(
        objects.EnvoyFilter,
        ((ENVOY_FILTER, lambda obj, _: istio_destinations.patches(obj)),),
        is_within=istio_destinations.filters_within,
    ),
}


def _destinations(*, ambient: bool) -> Mapping[str, PolicyRule]:
    annotations = (istio_destinations.REDIRECTION,) if ambient else ()
    return {
        "ServiceEntry": PolicyRule(
            objects.ServiceEntry,
            (_sends_in(partial(istio_destinations.leads_past, ambient=ambient)),),
            is_within=istio_destinations.entry_within,
            annotations=annotations,
        ),
        "WorkloadEntry": PolicyRule(
            objects.WorkloadEntry,
            (_sends_in(partial(istio_destinations.is_called_plainly, ambient=ambient)),),
            is_within=istio_destinations.workload_within,
            annotations=annotations,
        ),
    }


#: ztunnel reads no Sidecar and knows all Services, and has no ProxyConfig.
_AMBIENT: Mapping[str, PolicyRule] = {**_EITHER, **_destinations(ambient=True)}
_ISTIO: Mapping[str, PolicyRule] = {
    **_EITHER,
    **_destinations(ambient=False),
    "Sidecar": PolicyRule(
        objects.Sidecar,
        (_sends_in(istio_destinations.hides), _accepts(istio_destinations.takes_in)),
        is_within=istio_destinations.sidecar_within,
    ),
    "Service": PolicyRule(
        objects.Service,
        (_sends(istio_destinations.is_hidden),),
        annotations=(istio_destinations.EXPORT_TO,),
    ),
    "ProxyConfig": PolicyRule(
        objects.ProxyConfig,
        ((PROXY_CONFIG, lambda obj, _: istio_destinations.variables(obj)),),
    ),
}
_LINKERD: Mapping[str, PolicyRule] = {
    "Server": PolicyRule(
        objects.Server,
        (_accepts(linkerd.of_server),),
        linkerd.server_strengths,
        linkerd.serves_within,
    ),
    "ServerAuthorization": PolicyRule(
        objects.ServerAuthorization,
        (_accepts(linkerd.of_server_authorization),),
        is_within=linkerd.grants_within,
    ),
    "AuthorizationPolicy": PolicyRule(
        objects.AuthorizationPolicy,
        (_accepts(linkerd.of_authorization_policy),),
        is_within=linkerd.authorizes_within,
    ),
    "NetworkAuthentication": PolicyRule(
        objects.NetworkAuthentication, (_accepts(linkerd.of_networks),)
    ),
    "EgressNetwork": PolicyRule(
        objects.EgressNetwork,
        (_sends(linkerd.of_egress_network),),
        is_within=linkerd.egress_within,
    ),
    "Namespace": PolicyRule(
        objects.NamespaceObject,
        (_accepts(linkerd.of_namespace),),
        linkerd.namespace_strengths,
        annotations=(INBOUND_POLICY,),
    ),
}
#: Mesh -> kind -> how it is judged. The chart sends no others.
KINDS: Mapping[str, Mapping[str, PolicyRule]] = {
    "istio": _ISTIO,
    "ambient": _AMBIENT,
    "linkerd": _LINKERD,
}
#: The maximum number of openings of an object that are read.
_MOST = 100
_LOST = "no longer rejects plaintext"


class PolicyChange(NamedTuple):
    """One change of a policy object; `old` is None for a new one."""

    kind: str
    namespace: str
    object: Any
    old: Any = None


def review(
    change: PolicyChange,
    mesh: str,
    mode: Mode,
    settings: Settings,
    *,
    today: datetime.date | None = None,
) -> Verdict:
    """Judge a change, of a kind that KINDS has for the mesh.

    An object may keep what it opened before, for the same clients. What an update opens in
    addition, or no longer closes, is a violation.
    """
    look = KINDS[mesh][change.kind]
    found = _found(look, change.object, settings)
    if change.old is not None:
        # Openings that were not read can't be compared.
        if len(found) < _MOST and look.is_within(change.object, change.old):
            found = worse(found, _found(look, change.old, settings))
        found += _lost(look, change, {one.field for one in found})
    if not found:
        return Verdict("admitted", mesh, mode)
    name = change.object.metadata.name or "without a name"
    where = f"{change.namespace}/" if change.namespace and change.kind != "Namespace" else ""
    verdict = weigh(
        found,
        change.object.metadata.labels or {},
        today or datetime.date.today(),
        mesh,
        mode,
        settings,
        subject=masked(f"{change.kind} {where}{name}"),
        namespace=change.namespace,
    )
    return verdict.about("would weaken mutual TLS")


def _found(look: PolicyRule, obj: Any, settings: Settings) -> list[Violation]:
    occurrences = (
        (check, occurrence) for check, find in look.rules for occurrence in find(obj, settings)
    )
    return [check.violation(occurrence) for check, occurrence in islice(occurrences, _MOST)]


def _lost(look: PolicyRule, change: PolicyChange, reported: set[str]) -> Iterator[Violation]:
    """Yield the fields that closed the object before this update, and no longer do."""
    now = look.closures(change.object)
    for field, who in look.closures(change.old).items():
        kept = now.get(field)
        if kept in ("", who) or field in reported:
            continue
        yield PLAINTEXT_ACCEPTED.violation(Occurrence(field, (), _LOST, "keep the previous value"))
