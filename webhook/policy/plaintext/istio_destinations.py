"""Istio's objects that can make clients in the mesh call others in the cluster in plaintext.

Sidecars, ServiceEntries, WorkloadEntries, WorkloadGroups, EnvoyFilters and ProxyConfigs. Sources
are paths in istio at 1.31, below pilot/pkg/.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from webhook.policy.inputs.istio import variable
from webhook.policy.mesh import Occurrence, annotation, label
from webhook.policy.plaintext import EXEMPT
from webhook.policy.plaintext.istio import is_exported_within, is_in_mesh
from webhook.policy.plaintext.objects import (
    Egress,
    EnvoyFilter,
    Meta,
    ProxyConfig,
    Service,
    ServiceEntry,
    Sidecar,
    WorkloadEntry,
    WorkloadGroup,
    Workloads,
)
from webhook.policy.plaintext.outside import is_external

TLS_MODE = "security.istio.io/tlsMode"
_MUTUAL = "istio"
TUNNEL = "networking.istio.io/tunnel"
REDIRECTION = "ambient.istio.io/redirection"
EXPORT_TO = "networking.istio.io/exportTo"
#: The most namespaces of its list that are read.
_MOST_NAMESPACES = 500
#: The addresses that Istio gives to hosts without one (ISTIO_META_DNS_AUTO_ALLOCATE): never pods.
_ALLOCATED = "240.240."
_LOCAL = ("127.", "::1", "unix://")
_SAY_TUNNEL = f"set its label {TUNNEL} to http if it speaks HBONE; {EXEMPT}"
_SAY_MUTUAL = f"set its label {TLS_MODE} to istio if it speaks mutual TLS; {EXEMPT}"


def hides(sidecar: Sidecar, domain: str) -> Iterator[Occurrence]:
    """Yield spec.egress if a Sidecar hides Services, so calls to them are plaintext.

    model/sidecar.go ConvertToSidecarScope: without egress everything is known. Without
    outboundTrafficPolicy the mesh's applies, which by default allows calls to unknown hosts.
    """
    spec = sidecar.spec
    entries = spec.egress
    if not entries or (
        spec.outbound_traffic_policy and spec.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    ):
        return
    hidden = _hidden(entries, sidecar.metadata.namespace, domain)
    if hidden:
        own = hidden == _OWN
        yield Occurrence(
            "spec.egress",
            (),
            f"hides {hidden} from the proxies, so they send calls to them in plaintext",
            f"add the host {'./*' if own else '*/*'} to the entry without a port, or set "
            "spec.outboundTrafficPolicy.mode to REGISTRY_ONLY",
            None if own else "warning",
        )


_OWN = "Services of the namespace"
_OTHERS = "Services of other namespaces"


def _hidden(entries: Sequence[Egress], namespace: str, domain: str) -> str:
    """Return which Services are hidden; empty if none are.

    Each entry that captures traffic must know all Services, because it handles all calls to its
    port. One entry must be for all ports.
    """
    judged = [one for one in entries if not (one.bind or "").startswith(_LOCAL)]
    found = [_hidden_by(one, namespace, domain) for one in judged]
    if _OWN in found or not any(one.port is None for one in judged):
        return _OWN
    return _OTHERS if _OTHERS in found else ""


def _hidden_by(entry: Egress, namespace: str, domain: str) -> str:
    """Return which Services one entry hides; empty if none are.

    model/sidecar.go selectServices: for a namespace that an entry names, only the named hosts
    count, also if the entry has `*`.
    """
    if entry.port is None and (
        entry.bind or entry.capture_mode not in (None, "", "DEFAULT", "IPTABLES")
    ):
        return _OWN
    named: dict[str, bool] = {}
    for host in entry.hosts or ():
        where, _, name = host.partition("/")
        where = namespace if where == "." else where
        all_of = f".svc.{domain}" if where == "*" else f".{where}.svc.{domain}"
        whole = name.startswith("*") and all_of.endswith(name[1:])
        named[where] = named.get(where, False) or whole
    everywhere = named.get("*", False)
    if not named.get(namespace, everywhere):
        return _OWN
    return "" if everywhere and all(named.values()) else _OTHERS


def is_hidden(service: Service) -> Iterator[Occurrence]:
    """Yield the annotation by which a Service is unknown to proxies, so calls to it are plaintext.

    serviceregistry/kube/conversion.go, model/push_context.go: `~` hides it from all namespaces.
    """
    text = (service.metadata.annotations or {}).get(EXPORT_TO, "")
    listed = {part.strip() for part in text.split(",", _MOST_NAMESPACES)}
    if not text or ("*" in listed and "~" not in listed):
        return
    own = "~" not in listed and bool({".", service.metadata.namespace} & listed)
    whose = "other namespaces" if own else "its own namespace"
    yield Occurrence(
        annotation(EXPORT_TO),
        (text,),
        f"hides the Service from the proxies of {whose}, so they send calls to it in plaintext",
        "remove it",
        "warning" if own else None,
    )


def takes_in(sidecar: Sidecar) -> Iterator[Occurrence]:
    """Yield each place where a Sidecar accepts traffic outside the mesh."""
    for index, one in enumerate(sidecar.spec.ingress or ()):
        field = f"spec.ingress[{index}]"
        if one.capture_mode not in (None, "", "DEFAULT", "IPTABLES"):
            yield Occurrence(
                f"{field}.captureMode",
                (one.capture_mode,),
                "lets clients bypass the proxy on this port",
                "remove it",
                "deny",
            )
        if one.tls and one.tls.mode != "ISTIO_MUTUAL":
            mode = one.tls.mode or "SIMPLE"
            yield Occurrence(f"{field}.tls", (mode,), "", "remove it: the mesh has its own TLS")


def sidecar_within(now: Sidecar, before: Sidecar) -> bool:
    """Return whether a changed Sidecar selects no further workloads and hides no more."""
    old, new = before.spec.egress or [], now.spec.egress or []
    return _selects_within(now.spec.workload_selector, before.spec.workload_selector) and (
        new == old or (len(new) == len(old) == 1 and _knows_more(new[0], old[0]))
    )


def _knows_more(now: Egress, before: Egress) -> bool:
    old, new = set(before.hosts or ()), set(now.hosts or ())
    named = {host.partition("/")[0] for host in old}
    return (
        (now.port, now.bind, now.capture_mode) == (before.port, before.bind, before.capture_mode)
        and old <= new
        # The first host of a namespace overrides `*` for that namespace.
        and ("*" not in named or all(host.partition("/")[0] in named for host in new))
    )


def leads_past(entry: ServiceEntry, domain: str, *, ambient: bool = False) -> Iterator[Occurrence]:
    """Yield fields of a ServiceEntry that make clients call the cluster in plaintext.

    cluster_tls.go: MESH_EXTERNAL, the default, is called in plaintext. Otherwise, an endpoint is,
    unless its label says mutual TLS. A host or an address without endpoints always is
    (serviceentry/conversion.go).
    """
    spec = entry.spec
    tunnelled = _is_tunnelled(entry.metadata.labels or {}, entry.metadata)
    external = spec.location != "MESH_INTERNAL"
    endpoints = [
        one
        for one in spec.endpoints or ()
        if external
        or (ambient and not tunnelled)
        or not _is_mutual(one.labels or {}, one.service_account, ambient=ambient)
    ]
    chosen = bool(spec.endpoints or spec.workload_selector)

    def inside(texts: Iterable[str]) -> tuple[str, ...]:
        found = (text for text in texts if not is_external(text, domain, entry.metadata.namespace))
        return tuple(dict.fromkeys(found))

    if spec.workload_selector and external:
        yield Occurrence(
            "spec.workloadSelector",
            (),
            "makes clients in the mesh call workloads of the "
            "mesh in plaintext, because location is MESH_EXTERNAL",
            "set spec.location to MESH_INTERNAL, or remove the selector",
        )
    if addresses := inside(one.address for one in endpoints):
        yield Occurrence(
            "spec.endpoints",
            addresses,
            _calls("addresses that may be in the cluster"),
            _remove("these endpoints"),
        )
    if external or not chosen or endpoints:
        hosts = spec.hosts or ()
        # If endpoints decide where calls go, any name is fine, except a Service's.
        named = tuple(h for h in hosts if is_in_mesh(h, domain)) if chosen else inside(hosts)
        if named:
            yield Occurrence("spec.hosts", named, _calls("hosts that may be in the cluster"),
                             _remove("these hosts"))  # fmt: skip
        captured = inside(one for one in spec.addresses or () if not one.startswith(_ALLOCATED))
        if captured:
            goes_there = not chosen and spec.resolution in (None, "", "NONE")
            yield Occurrence(
                "spec.addresses",
                captured,
                _calls("addresses that may be in the cluster"),
                _remove("these addresses"),
                None if goes_there else "warning",
            )
    if not external and chosen:
        public = [host for host in spec.hosts or () if is_external(host, domain)]
        if public:
            yield Occurrence(
                "spec.hosts",
                tuple(public),
                "gives workloads of the mesh a public name, so "
                "a DestinationRule can disable mutual TLS unnoticed",
                "use a name below a private domain, such as .internal",
                "warning",
            )


def _calls(what: str) -> str:
    return f"makes clients in the mesh call {what} in plaintext"


def _remove(what: str) -> str:
    return f"remove {what}, and call the Service instead; {EXEMPT}"


def entry_within(now: ServiceEntry, before: ServiceEntry) -> bool:
    """Return whether a changed ServiceEntry adds no names, ports, clients or workloads."""
    old, new = before.spec, now.spec
    return (
        (new.location, new.resolution) == (old.location, old.resolution)
        and set(new.hosts or ()) <= set(old.hosts or ())
        and set(new.addresses or ()) <= set(old.addresses or ())
        and set(new.ports or ()) <= set(old.ports or ())
        and is_exported_within(new.export_to, old.export_to)
        and (
            new.workload_selector is None
            or (
                old.workload_selector is not None
                and _selects_within(new.workload_selector, old.workload_selector)
            )
        )
    )


def _is_mutual(
    labels: Mapping[str, str], service_account: str | None, *, ambient: bool = False
) -> bool:
    """Return whether an endpoint's label lets a sidecar call it with mutual TLS.

    serviceentry/conversion.go getTLSModeFromWorkloadEntry: the label decides. Without it, a
    ServiceAccount is required. For ztunnel, it is enough that no label says otherwise.
    """
    return labels[TLS_MODE] == _MUTUAL if TLS_MODE in labels else ambient or bool(service_account)


def _is_tunnelled(labels: Mapping[str, str], meta: Meta) -> bool:
    """Return whether ztunnel calls an object's destinations with mutual TLS.

    serviceregistry/ambient/workloads.go setTunnelProtocol: its own labels and annotations decide,
    also for endpoints in a ServiceEntry.
    """
    return labels.get(TUNNEL) == "http" or (meta.annotations or {}).get(REDIRECTION) == "enabled"


def _labels_of(entry: WorkloadEntry) -> dict[str, str]:
    """Return the labels of a workload (serviceentry/conversion.go ConvertWorkloadEntry)."""
    return {**(entry.spec.labels or {}), **(entry.metadata.labels or {})}


def is_called_plainly(
    entry: WorkloadEntry, domain: str, *, ambient: bool = False
) -> Iterator[Occurrence]:
    """Yield fields of a WorkloadEntry that make clients call the cluster in plaintext."""
    spec = entry.spec
    labels = _labels_of(entry)
    if is_external(spec.address, domain):
        return
    if not _is_mutual(labels, spec.service_account, ambient=ambient):
        field, fix = "spec.address", _SAY_MUTUAL
        if TLS_MODE in labels:
            field = label(TLS_MODE) if TLS_MODE in (entry.metadata.labels or {}) else _SPEC_LABEL
    elif ambient and not _is_tunnelled(labels, entry.metadata):
        field, fix = "spec.address", _SAY_TUNNEL
    else:
        return
    yield Occurrence(field, (spec.address or "no address",),
                     _calls("an address that may be in the cluster"), fix)  # fmt: skip


_SPEC_LABEL = f"spec.labels[{TLS_MODE}]"


def workload_within(now: WorkloadEntry, before: WorkloadEntry) -> bool:
    """Return whether the same Services select a changed WorkloadEntry."""
    return _labels_of(now) == _labels_of(before)


def group_is_called_plainly(group: WorkloadGroup) -> Iterator[Occurrence]:
    """Yield each place where a WorkloadGroup makes clients call its workloads in plaintext.

    Without the label, each WorkloadEntry that istiod creates from it is judged by itself.
    """
    spec = group.spec
    for place, labels in (
        ("spec.template", spec.template.labels if spec.template else None),
        ("spec.metadata", spec.metadata.labels if spec.metadata else None),
    ):
        mode = (labels or {}).get(TLS_MODE, _MUTUAL)
        if mode != _MUTUAL:
            yield Occurrence(f"{place}.labels[{TLS_MODE}]", (mode,), _calls("these workloads"),
                             "set it to istio, or remove it")  # fmt: skip


def patches(envoy_filter: EnvoyFilter) -> Iterator[Occurrence]:
    """Yield the patches of an EnvoyFilter; their effect on mutual TLS is unknown."""
    kinds = sorted({one.apply_to for one in envoy_filter.spec.config_patches or ()})
    if kinds:
        yield Occurrence("spec.configPatches", tuple(kinds))


def variables(proxy_config: ProxyConfig) -> Iterator[Occurrence]:
    """Yield variables of a ProxyConfig that authors must not set in `proxyMetadata`."""
    for name, value in (proxy_config.spec.environment_variables or {}).items():
        for problem in variable(name, value):
            yield Occurrence(f"spec.environmentVariables[{name[:63]}]", (value,), problem)


def filters_within(now: EnvoyFilter, before: EnvoyFilter) -> bool:
    """Return whether a changed EnvoyFilter makes the same changes to the same proxies."""
    return now.spec == before.spec


def _selects_within(now: Workloads | None, before: Workloads | None) -> bool:
    """Return whether a selector selects no further workloads; None selects all."""
    old, new = ((one.labels if one else None) or {} for one in (before, now))
    return old.items() <= new.items()
