"""Istio's own containers and volumes, and the evidence that they are effective.

Sources are paths in istio at 1.31, unless said otherwise.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from webhook.policy.inputs import proxyconfig
from webhook.policy.inputs.istio import INIT, PROXY, VALIDATION, VOLUMES
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod import containers, ports
from webhook.policy.pod.workload import Placed, Pod, Source

#: All flags that the injector gives istio-init and istio-validation (istio-iptables/pkg/cmd).
_RULE_FLAGS = frozenset({
    "-p", "-z", "-u", "-g", "-m", "-i", "-x", "-b", "-d", "-q", "-o", "-k", "-c",
    "--log_output_level", "--redirect-dns", "--capture-all-dns", "--log_as_json",
    "--run-validation", "--skip-rule-apply", "--force-apply", "--native-nftables",
})  # fmt: skip
#: The flags that may have no value.
SWITCHES = frozenset({
    "--log_as_json", "--run-validation", "--skip-rule-apply", "--force-apply", "--native-nftables",
})  # fmt: skip
#: Each flag of istio-init can also be a variable. One of these can make it do nothing.
RULE_ENV = (
    "DRY_RUN", "SKIP_RULE_APPLY", "CLEANUP_ONLY", "RUN_VALIDATION", "NETWORK_NAMESPACE", "CNI_MODE",
    "RECONCILE", "FORCE_IPTABLES_BINARY", "IPTABLES_PROBE_PORT", "PROBE_TIMEOUT", "ENVOY_USER",
    "ENVOY_PORT", "PROXY_UID", "PROXY_GID", "KUBE_VIRT_INTERFACES", "INBOUND_", "ISTIO_INBOUND_",
    "ISTIO_OUTBOUND_", "ISTIO_LOCAL_", "ISTIO_EXCLUDE_", "ISTIO_SERVICE_",
)  # fmt: skip
#: Variables with which the agent runs no proxy (pilot-agent/options, cni/pkg/plugin/plugin.go).
NO_PROXY_ENV = ("DISABLE_ENVOY",)
#: The variables to which the injector refers in other variables.
REFERRED = frozenset({"POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "HOST_IP", "SERVICE_ACCOUNT"})


class Rules(NamedTuple):
    """The arguments of istio-init or istio-validation that concern redirection rules."""

    placed: Placed
    flags: Mapping[str, str]
    unexpected: tuple[str, ...]


def rules(placed: Placed) -> Rules:
    """Return the arguments after the name of the program, `istio-iptables`."""
    return Rules(placed, *placed.flags(_RULE_FLAGS, SWITCHES, skip=1))


def not_redirecting(of: Rules) -> Iterator[Occurrence]:
    """Yield arguments and variables that make it redirect nothing, or to another place."""
    placed, flags = of.placed, of.flags
    field, fix = placed.field("args"), f"author: let Istio's injector add {placed.name}"
    skips = ["--skip-rule-apply"] if placed.name == INIT and "--skip-rule-apply" in flags else []
    if of.unexpected or skips:
        yield Occurrence(
            field,
            tuple(of.unexpected or skips),
            "has arguments that can stop it from redirecting traffic",
            fix,
        )
    if placed.name == VALIDATION and flags.get("--run-validation") != "true":
        yield Occurrence(field, reason="does not check whether traffic is redirected", fix=fix)
    for flag, port in (("-p", "15001"), ("-z", "15006")):
        if flags.get(flag, port) != port:
            yield Occurrence(field, (f"{flag} {flags[flag]}",),
                             "redirects to a port that is not the proxy's", fix)  # fmt: skip
    if flags.get("-m", "REDIRECT") not in ("REDIRECT", "TPROXY"):
        yield Occurrence(field, (f"-m {flags['-m']}",), "redirects no traffic", fix)
    if names := placed.variables.starting(RULE_ENV):
        yield Occurrence(
            placed.field("env"),
            tuple(sorted(names)),
            "has variables that can stop it from redirecting traffic",
            fix,
        )


def passing(of: Rules) -> tuple[set[int], list[str]]:
    """Return the users and groups that its rules exclude, and entries that are not numbers."""
    numbers: set[int] = set()
    unexpected: list[str] = []
    for flag in ("-u", "-g"):
        text = of.flags.get(flag)
        if text is None:
            continue
        parts = text[:_LONGEST_USERS].split(",")
        found = [containers.number(part) for part in parts]
        numbers.update(*found)
        if len(text) > _LONGEST_USERS or not all(found):
            unexpected.append(f"{flag} {text[:_LONGEST_USERS]}")
    return numbers, unexpected


#: The maximum length of a list of users, in characters.
_LONGEST_USERS = 512


def own_programs(placed: Placed) -> Iterator[Occurrence]:
    """Yield what makes one of Istio's containers run another program, or keep running."""
    container = placed.container
    args = container.args or []
    if container.command:
        yield Occurrence(placed.field("command"), reason="runs its own command")
    if placed.name != PROXY:
        if container.restart_policy:
            yield Occurrence(placed.field("restartPolicy"),
                             reason="lets the pod start even if the container fails")  # fmt: skip
        if args[:1] != ["istio-iptables"]:
            yield Occurrence(
                placed.field("args"), reason="does not set the rules that redirect traffic"
            )
        return
    context = container.security_context
    if context and context.privileged:
        yield Occurrence(placed.field("securityContext.privileged"), (),
                         "runs the proxy as privileged, with full access to the node",
                         "mesh's admin: unset values.global.proxy.privileged; author: remove the "
                         "annotation that requests it")  # fmt: skip


def idle_proxy(placed: Placed) -> Iterator[Occurrence]:
    """Yield variables that stop the proxy or its interception."""
    names = [*placed.variables.starting(NO_PROXY_ENV)]
    env = placed.env
    if env.get("ISTIO_META_INTERCEPTION_MODE", "REDIRECT") not in ("REDIRECT", "TPROXY"):
        names.append("ISTIO_META_INTERCEPTION_MODE")
    config = proxyconfig.parse(env.get("PROXY_CONFIG"))
    if config is None or config.get("interceptionMode", "") not in proxyconfig.CAPTURING:
        names.append("PROXY_CONFIG")
    if names:
        yield Occurrence(
            placed.field("env"),
            tuple(names),
            "stops the proxy from capturing traffic",
            "author: remove the annotation or ProxyConfig that sets it; mesh's admin: check "
            "meshConfig.defaultConfig",
        )


def unexpected_volumes(pod: Pod) -> Iterator[Occurrence]:
    """Yield the proxy's volumes with a foreign source. They hold its identity and trust."""
    for name in VOLUMES & pod.volumes.keys():
        source = pod.source(name)
        if source is not None and not _SOURCES[name](source):
            yield Occurrence(
                f"spec.volumes[{name}]",
                (source.field,),
                "is the proxy's volume, but does not have the source that Istio gives it",
                "author: remove the volume, the injector adds it",
            )


def _is_empty(source: Source) -> bool:
    return source.field == "emptyDir"


def _is_socket(source: Source) -> bool:
    """Return whether the source is empty, or from SPIRE (istio.io ops/integrations/spire)."""
    return _is_empty(source) or (source.field == "csi" and source.content.driver == "csi.spiffe.io")


def _is_google(source: Source) -> bool:
    driver = "workloadcertificates.security.cloud.google.com"
    return source.field == "csi" and bool(source.content.driver == driver)


def _is_all_of(source: Source, name: str) -> bool:
    content = source.content
    return source.field == "configMap" and content.name == name and not content.items


def _is_root(source: Source) -> bool:
    """Return whether the source is the complete root certificates of istiod."""
    return _is_all_of(source, "istio-ca-root-cert") or _is_projected(source, "clusterTrustBundle")


def _is_crl(source: Source) -> bool:
    return _is_all_of(source, "istio-ca-crl")


def _is_token(source: Source) -> bool:
    return _is_projected(source, "serviceAccountToken")


def _is_projected(source: Source, kind: str) -> bool:
    return source.field == "projected" and bool(source.content.kinds == [{kind}])


def _is_podinfo(source: Source) -> bool:
    """Return whether the volume contains only the pod's labels and annotations."""
    if source.field != "downwardAPI":
        return False
    for item in source.content.items or ():
        if item.path in ("labels", "annotations"):
            if item.field_ref is None or item.field_ref.field_path != f"metadata.{item.path}":
                return False
        elif item.path not in ("cpu-limit", "cpu-request") or not item.resource_field_ref:
            return False
    return True


_SOURCES = {
    "workload-socket": _is_socket,
    "credential-socket": _is_empty,
    "workload-certs": _is_empty,
    "istio-envoy": _is_empty,
    "istio-data": _is_empty,
    "istio-podinfo": _is_podinfo,
    "istio-token": _is_token,
    "istiod-ca-cert": _is_root,
    "istio-ca-crl": _is_crl,
    "gke-workload-certificate": _is_google,
}


def excluded(of: Rules, flag: str, allowed: ports.Ranges) -> tuple[str, ...]:
    """Return the ports that a flag excludes, without allowed ones."""
    return ports.beyond(of.flags.get(flag, ""), allowed)
