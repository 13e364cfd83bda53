"""The admin's settings: one YAML file, strict, read once at start.

Field names are camelCase in the file. An unknown key is an error that names its path, because a
misspelled setting that is silently ignored leaves a cluster less protected than its owner
thinks.
"""

import datetime
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from webhook.policy.pod import ports
from webhook.policy.settings import mistakes

#: The largest user or group id that Kubernetes accepts.
LARGEST_ID = 2**31 - 1
Text = Annotated[str, Meta(min_length=1)]
CheckId = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]*$")]
PortList = Annotated[
    str,
    Meta(
        pattern=r"^\s*(\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*)?\s*$",
        extra={mistakes.FORM: 'ports and ranges, separated by commas, for example "80,8000-8100"'},
    ),
]


class SettingsError(ValueError):
    """A settings file that can't be used; the text says what is wrong and where."""


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Base of all: camelCase, unknown keys are an error."""


class Expression(_Strict, frozen=True, kw_only=True, rename="camel"):
    """One requirement of a label selector, as in Kubernetes."""

    key: Text
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels meet the requirement. NotIn also holds without the key."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "In")


class Selector(_Strict, frozen=True, kw_only=True, rename="camel"):
    """A label selector, as in Kubernetes; an empty one selects all."""

    match_labels: dict[str, str] = {}
    match_expressions: list[Expression] = []

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels meet every requirement."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )


class _Selected(_Strict, frozen=True, kw_only=True, rename="camel"):
    """A rule for some namespaces and pods only, with a written reason."""

    reason: Annotated[str, Meta(min_length=1, description="Why; shown wherever it applies.")]
    namespaces: Annotated[
        list[Text], Meta(min_length=1, description="Names or globs; * is every namespace.")
    ]
    selector: Annotated[Selector, Meta(description="Labels of the pods; all pods if empty.")] = (
        Selector()
    )

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether it applies to a pod with these labels in this namespace."""
        return any(
            fnmatchcase(namespace, pattern) for pattern in self.namespaces
        ) and self.selector.matches(labels)


class Exemption(_Selected, frozen=True, kw_only=True, rename="camel"):
    """Pods that may break named checks.

    Anyone who may create pods in such a namespace chooses their labels: exempt a namespace whose
    owners you trust.
    """

    checks: Annotated[list[CheckId], Meta(min_length=1, description="Ids of the checks.")]
    until: Annotated[
        datetime.date | None, Meta(description="Last day; after it, the exemption has no effect.")
    ] = None

    def holds_on(self, today: datetime.date) -> bool:
        """Return whether its last day has not passed."""
        return self.until is None or today <= self.until


class LevelChange(_Selected, frozen=True, kw_only=True, rename="camel"):
    """Another level for a check, for all pods or some."""

    check: Annotated[
        CheckId, Meta(description="Id of the check: one of checks.md, or of policies, strict.md.")
    ]
    level: Annotated[
        Literal["deny", "warning"], Meta(description="deny denies the pod, warning only warns.")
    ]
    namespaces: Annotated[
        list[Text], Meta(min_length=1, description="Names or globs; * is every namespace.")
    ] = msgspec.field(default_factory=lambda: ["*"])


class Annotation(_Strict, frozen=True, kw_only=True, rename="camel"):
    """An annotation or label that pod authors may set, in addition to the known harmless ones.

    Its value is not checked further: allow only keys that can't make traffic bypass the mesh.
    """

    key: Annotated[
        Text, Meta(description="The whole key, for example config.linkerd.io/proxy-version.")
    ]
    reason: Annotated[str, Meta(min_length=1, description="Why authors may set it.")]
    values: Annotated[
        list[str], Meta(description="The values that authors may choose; any value if empty.")
    ] = []


class Linkerd(_Strict, frozen=True, kw_only=True, rename="camel"):
    """How Linkerd is installed in the cluster, and what is required of pods."""

    control_plane_namespace: Annotated[Text, Meta(description="Where Linkerd runs.")] = "linkerd"
    proxy_images: Annotated[
        list[Text],
        Meta(
            min_length=1,
            description="Allowed repositories of the proxy's image, without tag; add your "
            "mirror's.",
        ),
    ] = msgspec.field(default_factory=lambda: ["cr.l5d.io/linkerd/proxy"])
    init_images: Annotated[
        list[Text],
        Meta(description="Further repositories for linkerd-init (a separate image before 2.19)."),
    ] = msgspec.field(default_factory=lambda: ["cr.l5d.io/linkerd/proxy-init"])
    proxy_uid: Annotated[int, Meta(ge=1, le=LARGEST_ID, description="The proxy's user id.")] = 2102
    proxy_gid: Annotated[
        Annotated[int, Meta(ge=1, le=LARGEST_ID)] | None,
        Meta(description="The proxy's group id, if the mesh gives it one."),
    ] = None
    inbound_port: Annotated[
        int, Meta(ge=1, le=65535, description="Inbound port of the proxy and the CNI plugin.")
    ] = 4143
    outbound_port: Annotated[
        int, Meta(ge=1, le=65535, description="Outbound port of the proxy and the CNI plugin.")
    ] = 4140
    skip_inbound_ports: Annotated[
        PortList, Meta(description="Inbound ports that may bypass the proxy: the mesh's default.")
    ] = "4190,4191,4567,4568"
    skip_outbound_ports: Annotated[
        PortList, Meta(description="Outbound ports that may bypass the proxy: the mesh's default.")
    ] = "4567,4568"
    skip_subnets: Annotated[
        list[Text],
        Meta(
            description="Subnets that may bypass the proxy. A pod must name one with the same text."
        ),
    ] = []
    inbound_policy: Annotated[
        Literal[
            "all-authenticated", "cluster-authenticated", "deny", "all-unauthenticated",
            "cluster-unauthenticated", "audit",
        ]
        | None,
        Meta(description="Added to pods as default-inbound-policy; all-authenticated rejects "
             "plaintext."),
    ] = None  # fmt: skip
    annotations: Annotated[
        list[Annotation], Meta(description="Further annotations that pod authors may set.")
    ] = []


class Istio(_Strict, frozen=True, kw_only=True, rename="camel"):
    """How Istio is installed in the cluster; for sidecars and, in part, for ambient mode."""

    control_plane_namespace: Annotated[Text, Meta(description="Where istiod runs.")] = (
        "istio-system"
    )
    control_plane_hosts: Annotated[
        list[Text],
        Meta(description="Further host names of istiod, for example of an external one."),
    ] = []
    revision: Annotated[
        str | None,
        Meta(description="Revision or tag that pods request, if the mesh has no default revision."),
    ] = None
    native_sidecars: Annotated[
        bool,
        Meta(
            description="Task pods request a native sidecar (Istio 1.24, Kubernetes 1.29 or later);"
            " else their application waits for the proxy."
        ),
    ] = True
    proxy_images: Annotated[
        list[Text],
        Meta(
            min_length=1,
            description="Allowed repositories of the proxy's image, without tag; add your "
            "mirror's.",
        ),
    ] = msgspec.field(
        default_factory=lambda: [
            "docker.io/istio/proxyv2",
            "gcr.io/istio-release/proxyv2",
            "registry.istio.io/release/proxyv2",
        ]
    )
    proxy_uid: Annotated[
        Annotated[int, Meta(ge=1, le=LARGEST_ID)] | None,
        Meta(
            description="The proxy's user and group id; null on OpenShift, which assigns one per "
            "namespace."
        ),
    ] = 1337
    exclude_inbound_ports: Annotated[
        PortList,
        Meta(description="Inbound ports that may bypass the proxy, in addition to its own ports."),
    ] = ""
    exclude_outbound_ports: Annotated[
        PortList, Meta(description="Outbound ports that may bypass the proxy.")
    ] = ""
    exclude_outbound_ip_ranges: Annotated[
        list[Text],
        Meta(
            description="Ranges that may bypass the proxy. A pod must name one with the same text."
        ),
    ] = msgspec.field(name="excludeOutboundIPRanges", default_factory=list)
    templates: Annotated[
        list[Text],
        Meta(description="Injection templates, in addition to sidecar, that capture all traffic."),
    ] = []
    annotations: Annotated[
        list[Annotation], Meta(description="Further annotations that pod authors may set.")
    ] = []


class Ambient(_Strict, frozen=True, kw_only=True, rename="camel"):
    """How Istio's ambient mode is installed, in addition to `istio`."""

    runtime_classes: Annotated[
        list[Text],
        Meta(
            description="Runtime classes whose pods the node agent can redirect. Sandboxes such as "
            "gVisor or Kata have their own network, which it can't redirect."
        ),
    ] = []


class Allow(_Selected, frozen=True, kw_only=True, rename="camel"):
    """Traffic of some pods that may bypass the mesh: ports, subnets, injection templates."""

    inbound_ports: Annotated[
        PortList, Meta(description="Ports on which clients may reach the pods without the proxy.")
    ] = ""
    outbound_ports: Annotated[
        PortList, Meta(description="Ports to which the pods may connect without the proxy.")
    ] = ""
    subnets: Annotated[
        list[Text],
        Meta(
            description="Subnets to which the pods may connect without the proxy. A pod must name "
            "one with the same text."
        ),
    ] = []
    templates: Annotated[
        list[Text], Meta(description="Istio's injection templates that the pods may request.")
    ] = []
    until: Annotated[
        datetime.date | None, Meta(description="Last day; after it, the allowance has no effect.")
    ] = None


class Allowed(NamedTuple):
    """All that applies to one pod, taken together."""

    inbound: ports.Ranges
    outbound: ports.Ranges
    subnets: list[str]
    templates: list[str]


NOTHING = Allowed((), (), [], [])


class Ingress(_Strict, frozen=True, kw_only=True, rename="camel"):
    """Which ingress controller serves which ingress class."""

    classes: Annotated[
        dict[str, Literal["ingress-nginx", "f5-nginx", "none"]],
        Meta(
            description="Ingress class -> its controller: ingress-nginx (the community's), "
            "f5-nginx (F5's), or none to leave its Ingresses unchanged. An Ingress of a class that "
            "is not listed gets the annotations of both, unless its own annotations or the name of "
            "the class show its controller."
        ),
    ] = {}
    upstream_vhost: Annotated[
        bool,
        Meta(
            description="With Istio and ingress-nginx, Ingresses of one Service also get "
            "upstream-vhost, so that the sidecar knows the Service; the app sees its name as Host. "
            "F5's controller has no such annotation, so no class may be f5-nginx."
        ),
    ] = False


#: The group that no RBAC rule limits (Kubernetes, RBAC). Its members could remove the webhook.
_MASTERS = "system:masters"


class LeaveEnforcement(_Strict, frozen=True, kw_only=True, rename="camel"):
    """Who may take a namespace out of enforcement, by its labels.

    That is: to another mode, another mesh, or out of the mesh. If empty, everyone who may change a
    namespace's labels. The group system:masters is always allowed; to allow no one else, name only
    that group.
    """

    groups: Annotated[list[Text], Meta(description="Groups, as the API server knows them.")] = []
    users: Annotated[
        list[Text],
        Meta(description="Users; a ServiceAccount is system:serviceaccount:NAMESPACE:NAME."),
    ] = []

    def admits(self, user: str, groups: Collection[str]) -> bool:
        """Return whether a user may."""
        if not self.groups and not self.users:
            return True
        return user in self.users or not {_MASTERS, *self.groups}.isdisjoint(groups)


class Settings(_Strict, frozen=True, kw_only=True, rename="camel"):
    """All settings of how pods are judged."""

    opt_out: Annotated[
        Literal["deny", "override"],
        Meta(description="A pod that opts out of the mesh is denied, or opted in anyway."),
    ] = "deny"
    cluster_domain: Annotated[Text, Meta(description="The cluster's DNS domain.")] = "cluster.local"
    linkerd: Linkerd = Linkerd()
    istio: Istio = Istio()
    ambient: Ambient = Ambient()
    ingress: Ingress = Ingress()
    levels: Annotated[list[LevelChange], Meta(description="Other levels for checks.")] = []
    allow: Annotated[
        list[Allow], Meta(description="Traffic of some pods that may bypass the mesh.")
    ] = []
    exemptions: Annotated[list[Exemption], Meta(description="Pods that may break a check.")] = []
    leave_enforcement: LeaveEnforcement = LeaveEnforcement()

    def level_of(self, check: str, default: str, namespace: str, labels: Mapping[str, str]) -> str:
        """Return the level of a check for a pod: the last matching change, or the default."""
        for change in reversed(self.levels):
            if change.check == check and change.selects(namespace, labels):
                return change.level
        return default

    def allowed(self, namespace: str, labels: Mapping[str, str], today: datetime.date) -> Allowed:
        """Return the traffic that may bypass the mesh today, for pods with these labels."""
        found = NOTHING
        for allow in self.allow:
            if (allow.until is None or today <= allow.until) and allow.selects(namespace, labels):
                found = Allowed(
                    found.inbound + ports.parse(allow.inbound_ports)[0],
                    found.outbound + ports.parse(allow.outbound_ports)[0],
                    [*found.subnets, *allow.subnets],
                    [*found.templates, *allow.templates],
                )
        return found

    def exemption(
        self, check: str, namespace: str, labels: Mapping[str, str], today: datetime.date
    ) -> Exemption | None:
        """Return the exemption that lets a pod break a check today, if there is one."""
        for exemption in self.exemptions:
            if (
                check in exemption.checks
                and exemption.holds_on(today)
                and exemption.selects(namespace, labels)
            ):
                return exemption
        return None

    def lapsed(self, today: datetime.date) -> list[str]:
        """Return a line for each exemption and allowance that has expired."""
        dated: list[tuple[str, Exemption | Allow]] = [
            *((f"exemptions[{i}]", entry) for i, entry in enumerate(self.exemptions)),
            *((f"allow[{i}]", entry) for i, entry in enumerate(self.allow)),
        ]
        return [
            f"settings.{path} expired on {entry.until} and has no effect: remove it, or set a "
            f"later "
            f"`until` (its reason: {' '.join(entry.reason.split())})"
            for path, entry in dated
            if entry.until and entry.until < today
        ]


def parse(document: Any, *, checks: frozenset[str]) -> Settings:
    """Return the settings of a parsed YAML document; None (an empty file) gives the defaults.

    `checks` are the ids that levels and exemptions may name. Raise `SettingsError`.
    """
    given = {} if document is None else document
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(mistakes.explain(str(error), given, Settings, checks)) from None
    except RecursionError:
        raise SettingsError(
            "is nested too deeply - at `settings`; does it contain itself?"
        ) from None
    named = [
        (f"settings.levels[{i}].check", change.check) for i, change in enumerate(settings.levels)
    ] + [
        (f"settings.exemptions[{i}].checks[{j}]", check)
        for i, exemption in enumerate(settings.exemptions)
        for j, check in enumerate(exemption.checks)
    ]
    for path, check in named:
        if check not in checks:
            raise SettingsError(mistakes.unknown("check", check, path, checks))
    f5 = [name for name, one in settings.ingress.classes.items() if one == "f5-nginx"]
    if settings.ingress.upstream_vhost and f5:
        raise SettingsError(
            f"true has no effect for the class {mistakes.shown(f5[0])}: F5's controller can't "
            "change the Host header of an Ingress - at `settings.ingress.upstreamVhost`; remove "
            "the setting and use a VirtualServer (mendix-mesh explain ingress)"
        )
    for path, text in (
        ("linkerd.skipInboundPorts", settings.linkerd.skip_inbound_ports),
        ("linkerd.skipOutboundPorts", settings.linkerd.skip_outbound_ports),
        ("istio.excludeInboundPorts", settings.istio.exclude_inbound_ports),
        ("istio.excludeOutboundPorts", settings.istio.exclude_outbound_ports),
        *((f"allow[{i}].inboundPorts", a.inbound_ports) for i, a in enumerate(settings.allow)),
        *((f"allow[{i}].outboundPorts", a.outbound_ports) for i, a in enumerate(settings.allow)),
    ):
        for part in ports.beyond(text, ((0, 65535),)):
            raise SettingsError(
                f"invalid ports: {mistakes.shown(part)} - at `settings.{path}`; "
                "ports go from 0 to 65535, and a range from low to high"
            )
    return settings


def schema() -> dict[str, Any]:
    """Return the JSON schema of the settings file."""
    return msgspec.json.schema(Settings)
