"""Istio's PeerAuthentications and DestinationRules, as istiod and ztunnel read them.

Sources are paths in istio at 1.31 unless said otherwise. tests/cluster/test_plaintext_istio.py
compares this with the real istiod.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from webhook.policy.mesh import Occurrence
from webhook.policy.meshes.ambient import BYPASS
from webhook.policy.meshes.istio import INTERCEPTION, TRAFFIC
from webhook.policy.plaintext import CLOSE, EXEMPT, Opening, Reading
from webhook.policy.plaintext.objects import (
    DestinationRule,
    Labels,
    PeerAuthentication,
    Tls,
    TrafficPolicy,
)
from webhook.policy.plaintext.outside import covers, is_external
from webhook.policy.pod import ports as lists
from webhook.policy.words import shortened

STRICT, PERMISSIVE = "STRICT", "PERMISSIVE"
_EXCLUDE_INBOUND = f"{TRAFFIC}excludeInboundPorts"
_INCLUDE_INBOUND = f"{TRAFFIC}includeInboundPorts"
#: Modes of a DestinationRule that disable the mesh's mTLS (cluster_tls.go
#: buildUpstreamTLSSettings). MUTUAL is mutual TLS too, with other certificates.
_DOWNGRADES = ("DISABLE", "SIMPLE")
_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_FIX = "set its mode to STRICT"
_NONE = Opening(
    "no PeerAuthentication sets STRICT, and Istio's default is PERMISSIVE",
    f"add one with mode STRICT: {CLOSE}",
)


class Rule(NamedTuple):
    """A mode, and the object that sets it; empty for Istio's default."""

    mode: str
    source: str


def mode_of(policy: PeerAuthentication) -> str:
    """Return the mode of a policy; empty if it is UNSET, and so inherited."""
    return _set(policy.spec.mtls.mode if policy.spec.mtls else None)


def _set(mode: str | None) -> str:
    return "" if mode in (None, "", "UNSET") else str(mode)


def selects(policy: PeerAuthentication) -> Mapping[str, str]:
    """Return the labels of the workloads to which it applies; empty if to all."""
    return (policy.spec.selector.match_labels if policy.spec.selector else None) or {}


def age(policy: PeerAuthentication) -> tuple[datetime.datetime, str]:
    """Return the sort key of policies in one scope; the first policy applies.

    model/config.go configCompareByCreationTime: by age, and within one second by name.
    """
    return (policy.metadata.creation_timestamp or _NEVER, policy.metadata.name)


class Peers:
    """The PeerAuthentications of a cluster, and the mode for each workload.

    policy_applier.go ComposePeerAuthentication: the narrowest scope applies. Within one scope, the
    oldest applies, and UNSET inherits. A policy with a selector in the root namespace has no
    effect.
    """

    def __init__(self, policies: Iterable[PeerAuthentication], root: str) -> None:
        self._root = root
        self._wide: dict[str, PeerAuthentication] = {}
        self._narrow: dict[str, list[PeerAuthentication]] = {}
        for policy in sorted(policies, key=age):
            namespace = policy.metadata.namespace
            if not selects(policy):
                self._wide.setdefault(namespace, policy)
            elif namespace != root:
                self._narrow.setdefault(namespace, []).append(policy)

    def wide(self, namespace: str) -> PeerAuthentication | None:
        """Return the policy that applies to a whole namespace, if it has one."""
        return self._wide.get(namespace) if namespace != self._root else None

    def has_own_mode(self, namespace: str) -> bool:
        """Return whether a namespace's own policy has a mode, which overrides the mesh's."""
        wide = self.wide(namespace)
        return wide is not None and bool(mode_of(wide))

    def narrow(self, namespace: str) -> list[PeerAuthentication]:
        """Return the policies of some workloads of a namespace, oldest first."""
        return self._narrow.get(namespace, [])

    def inherited(self, namespace: str) -> Rule:
        """Return the mode of workloads that no policy selects."""
        rule = Rule(PERMISSIVE, "")
        for policy in (self._wide.get(self._root), self.wide(namespace)):
            if policy is not None and mode_of(policy):
                rule = Rule(mode_of(policy), _title(policy))
        return rule

    def pod(
        self,
        namespace: str,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
        *,
        ambient: bool = False,
    ) -> Reading:
        """Return how a pod treats plaintext, including ports that its annotations exclude."""
        reading = self.of(namespace, labels, ambient=ambient)
        if ambient:
            if annotations.get(BYPASS, "").lower() not in ("1", "t", "true"):
                return reading
            return Reading(Opening(f"annotation {BYPASS} makes all inbound traffic bypass ztunnel",
                                   "remove it"), {})  # fmt: skip
        if annotations.get(INTERCEPTION) == "NONE":
            return Reading(Opening(f"annotation {INTERCEPTION} makes all inbound traffic "
                                   "bypass the proxy", "remove it"), {})  # fmt: skip
        included = annotations.get(_INCLUDE_INBOUND, "*").strip()
        if included != "*":
            # A port that is not listed is not captured, whatever the policies are.
            listed = {port: reading.ports.get(port, reading.default)
                      for port in lists.shown(included)}  # fmt: skip
            past_it = Opening(f"annotation {_INCLUDE_INBOUND} makes the ports that it does "
                              "not list bypass the proxy", "remove it")  # fmt: skip
            reading = Reading(past_it, listed, reading.closed)
        past = {
            port: Opening(f"annotation {_EXCLUDE_INBOUND} makes port {port} bypass the proxy",
                          "remove the port from it")
            for port in lists.shown(annotations.get(_EXCLUDE_INBOUND, ""))
        }  # fmt: skip
        return reading._replace(ports={**reading.ports, **past})

    def of(self, namespace: str, labels: Mapping[str, str], *, ambient: bool = False) -> Reading:
        """Return how plaintext to a workload with these labels is treated."""
        own = next((one for one in self.narrow(namespace) if _is_subset(one, labels)), None)
        rule = self.inherited(namespace)
        if own is None:
            return _reading(rule, {})
        parent, title, mode = rule, _title(own), mode_of(own)
        if mode:
            rule = Rule(mode, title)
        given = {port: _set(tls.mode if tls else None)
                 for port, tls in (own.spec.port_level_mtls or {}).items()}  # fmt: skip
        if ambient and parent.mode == STRICT:
            rule, given = self._by_ztunnel(namespace, rule, mode, title, given)
        ports = {port: Rule(own_mode, title) for port, own_mode in given.items() if own_mode}
        return _reading(rule, ports)

    def _by_ztunnel(
        self, namespace: str, rule: Rule, own: str, title: str, ports: dict[str, str]
    ) -> tuple[Rule, dict[str, str]]:
        """Return a policy with ports under a STRICT parent, as istiod converts it for ztunnel.

        serviceregistry/ambient/authorization.go convertPeerAuthentication. Istiod does the
        following:

        - It reads the ports of an UNSET policy only if one is PERMISSIVE, and then a DISABLE port
        is open too. If the namespace's own policy is UNSET, there is no result, so every port is
        open.

        - It leaves out a STRICT port of an open policy if the mesh's own mode is STRICT, as if that
        mode still applied. So that port accepts plaintext too.
        """
        inherits = not self.has_own_mode(namespace)
        if own == STRICT:
            return rule, ports
        if own:
            strict = [port for port, mode in ports.items() if mode == STRICT and inherits]
            return rule, {port: mode for port, mode in ports.items() if port not in strict}
        if PERMISSIVE not in ports.values():
            return rule, {}
        # The namespace's own policy is UNSET.
        if self.wide(namespace) is not None and inherits:
            return Rule(PERMISSIVE, title), {}
        return rule, ports


def _is_subset(policy: PeerAuthentication, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selects(policy).items())


def _title(policy: PeerAuthentication) -> str:
    return f"PeerAuthentication {policy.metadata.namespace}/{policy.metadata.name}"


def _reading(rule: Rule, ports: Mapping[str, Rule]) -> Reading:
    """Return the reading. DISABLE accepts only plaintext; ztunnel reads it as PERMISSIVE."""
    closed = f"{rule.source} is STRICT" if rule.mode == STRICT else ""
    return Reading(_opening(rule), {p: _opening(one, p) for p, one in ports.items()}, closed)


def _opening(rule: Rule, port: str = "") -> Opening | None:
    if rule.mode == STRICT:
        return None
    if not rule.source:
        return _NONE
    of = f" for port {port}" if port else ""
    return Opening(f"{rule.source} is {rule.mode}{of}", _FIX)


def weaknesses(policy: PeerAuthentication) -> Iterator[Occurrence]:
    """Yield each field by which a PeerAuthentication accepts plaintext."""
    mode = mode_of(policy)
    if mode and mode != STRICT:
        yield Occurrence("spec.mtls.mode", (mode,), "", "set it to STRICT")
    for port, tls in sorted((policy.spec.port_level_mtls or {}).items()):
        mode = _set(tls.mode if tls else None)
        if mode and mode != STRICT:
            yield Occurrence(f"spec.portLevelMtls[{port}].mode", (mode,), "", "set it to STRICT")


def strengths(policy: PeerAuthentication) -> dict[str, str]:
    """Return the fields of a PeerAuthentication that reject plaintext, with its selector."""
    who = ",".join(f"{key}={value}" for key, value in sorted(selects(policy).items()))
    found = {"spec.mtls.mode": who} if mode_of(policy) == STRICT else {}
    for port, tls in (policy.spec.port_level_mtls or {}).items():
        if _set(tls.mode if tls else None) == STRICT:
            found[f"spec.portLevelMtls[{port}].mode"] = who
    return found


def selects_within(now: PeerAuthentication, before: PeerAuthentication) -> bool:
    """Return whether a changed PeerAuthentication selects no further workloads."""
    return selects(before).items() <= selects(now).items()


def rules_within(now: DestinationRule, before: DestinationRule) -> bool:
    """Return whether a changed DestinationRule applies to no other host and no further clients."""
    clients = [one.spec.workload_selector or Labels() for one in (before, now)]
    old, new = ((one.match_labels or {}).items() for one in clients)
    return (
        now.spec.host == before.spec.host
        and old <= new
        and is_exported_within(now.spec.export_to, before.spec.export_to)
    )


def is_exported_within(now: Sequence[str] | None, before: Sequence[str] | None) -> bool:
    """Return whether an object is exported to no further namespaces; no list means all."""
    return not before or "*" in before or bool(now and set(now) <= set(before))


def downgrades(rule: DestinationRule, domain: str) -> Iterator[Occurrence]:
    """Yield each field of a DestinationRule that ends mTLS to a host in the mesh.

    Other TLS is fine for hosts that are clearly outside (databases, mail). Any other host may
    belong to a ServiceEntry for pods, for which its own TLS may be right.
    """
    host = rule.spec.host
    if not host or is_external(host, domain, rule.metadata.namespace):
        return
    certain = is_in_mesh(host, domain)
    yield from _of_policy(rule.spec.traffic_policy, "spec.trafficPolicy", host, certain=certain)
    for index, subset in enumerate(rule.spec.subsets or ()):
        field = f"spec.subsets[{index}].trafficPolicy"
        yield from _of_policy(subset.traffic_policy, field, host, certain=certain)


def _of_policy(
    policy: TrafficPolicy | None, field: str, host: str, *, certain: bool
) -> Iterator[Occurrence]:
    if policy is None:
        return
    places = [(policy.tls, f"{field}.tls.mode")]
    for index, one in enumerate(policy.port_level_settings or ()):
        places.append((one.tls, f"{field}.portLevelSettings[{index}].tls.mode"))
    for tls, place in places:
        mode = _downgrade(tls)
        if mode and certain:
            yield Occurrence(place, (mode,))
        elif mode:
            yield Occurrence(
                place,
                (mode,),
                f"makes clients in the mesh connect without its mutual TLS to "
                f"{shortened(host, 80)}, which may be in the cluster",
                f"remove the tls block, or set its mode to ISTIO_MUTUAL; {EXEMPT}",
                None if mode == "DISABLE" else "warning",
            )


def _downgrade(tls: Tls | None) -> str:
    """Return the mode that ends the mesh's mTLS, if any.

    A block without a mode is DISABLE, the first enum value (networking/v1alpha3).
    """
    mode = (tls.mode or "DISABLE") if tls else ""
    return mode if mode in _DOWNGRADES else ""


def is_in_mesh(host: str, domain: str) -> bool:
    """Return whether a host is, or includes as a wildcard, a Service of the cluster.

    pkg/config/model ResolveShortnameToFQDN: only a name without a dot is completed.
    """
    return bool(host) and ("." not in host or covers(host, f".svc.{domain}"))


def concerns(rule: DestinationRule, namespace: str, domain: str) -> bool:
    """Return whether a DestinationRule applies to clients in a namespace, or to its Services."""
    if rule.metadata.namespace == namespace:
        return True
    return covers(rule.spec.host, f".{namespace}.svc.{domain}")
