"""Istio's own containers: what they are run with, and what would make them do something else.

Sources are paths in istio at 1.31, unless said otherwise.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from webhook.policy import containers, ports, proxyconfig
from webhook.policy.memo import remembered
from webhook.policy.meshes import Spot
from webhook.policy.objects import VolumeMount
from webhook.policy.proxyconfig import Config
from webhook.policy.workload import Placed, Pod

PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"

#: Flags that the injector gives the proxy (files/injection-template.yaml, waypoint.yaml). Others
#: name a bootstrap or a mesh configuration of the author's (pilot-agent/app/cmd.go).
_PROXY_FLAGS = frozenset({
    "--domain", "--proxyLogLevel", "--proxyComponentLogLevel", "--log_output_level", "--stsPort",
    "--outlierLogPath", "--concurrency", "--serviceCluster", "--log_as_json",
})  # fmt: skip
#: All flags that the injector gives istio-init and istio-validation (istio-iptables/pkg/cmd).
_RULE_FLAGS = frozenset({
    "-p", "-z", "-u", "-g", "-m", "-i", "-x", "-b", "-d", "-q", "-o", "-k", "-c",
    "--log_output_level", "--redirect-dns", "--capture-all-dns", "--log_as_json",
    "--run-validation", "--skip-rule-apply", "--force-apply", "--native-nftables",
})  # fmt: skip
#: Those that stand without a value.
_SWITCHES = frozenset({
    "--log_as_json", "--run-validation", "--skip-rule-apply", "--force-apply", "--native-nftables",
})  # fmt: skip
#: Variables that nobody gives the whole mesh. istio-init takes each flag from the environment too,
#: so that one of them may tell it to do nothing; the others change what the proxy runs.
_UNDOING_ENV = (
    "DRY_RUN", "SKIP_RULE_APPLY", "CLEANUP_ONLY", "RUN_VALIDATION", "NETWORK_NAMESPACE", "CNI_MODE",
    "RECONCILE", "FORCE_IPTABLES_BINARY", "IPTABLES_PROBE_PORT", "PROBE_TIMEOUT", "ENVOY_USER",
    "ENVOY_PORT", "ENVOY_PATH", "PROXY_UID", "PROXY_GID", "KUBE_VIRT_INTERFACES", "INBOUND_",
    "ISTIO_INBOUND_", "ISTIO_OUTBOUND_", "ISTIO_LOCAL_", "ISTIO_EXCLUDE_", "ISTIO_SERVICE_",
    "DISABLE_ENVOY", "ISTIO_BOOTSTRAP", "ISTIO_METAJSON_", "ISTIO_META_TLS", "OUTPUT_CERTS",
    "PROV_CERT", "FILE_MOUNTED_CERTS", "WORKLOAD_IDENTITY_", "XDS_ROOT_CA", "XDS_AUTH_PLAINTEXT",
    "CA_ROOT_CA", "ISTIOD_SAN", *containers.LOADER_ENV,
)  # fmt: skip
#: What an author's `proxyMetadata` may not set either, though a mesh's configuration may.
_GUARDED_ENV = (
    *_UNDOING_ENV, "CA_ADDR", "CA_PROVIDER", "CA_HEADER_", "PILOT_CERT_PROVIDER", "XDS_",
    "JWT_POLICY", "TOKEN_", "CREDENTIAL_", "TRUST_DOMAIN", "ISTIO_META_INTERCEPTION_MODE",
    "PROXY_CONFIG", "POD_", "SERVICE_ACCOUNT",
)  # fmt: skip
#: Keys of its configuration that give the proxy another program, bootstrap or folder, or plaintext
#: to its control plane (pkg/istio-agent/agent.go, pkg/bootstrap/instance.go).
_UNDOING_KEYS = frozenset({
    "binaryPath", "configPath", "customConfigFile", "proxyBootstrapTemplatePath",
    "controlPlaneAuthPolicy",
})  # fmt: skip
#: What an author's configuration may not have either, though a mesh's may.
_GUARDED_KEYS = _UNDOING_KEYS | {"caCertificatesPem", "runtimeValues"}
#: Interception modes that redirect traffic, by name and number, and the texts of none at all.
_CAPTURING = ("REDIRECT", "TPROXY", "0", "1", "", "~", "null")
#: What installations add to the injector's own hooks, to end later.
_SLEEPS = (["sleep"], ["/bin/sleep"])
#: The folders that the proxy reads, and the volumes that the injector puts there: no other may be
#: in, above or below one. The first is its mesh's configuration, the second its bootstrap's; keys
#: and roots that the agent finds in /etc/certs are its own (security/pkg/nodeagent/cache).
_OWN_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "/etc/istio/config": (),
    "/etc/istio/custom-bootstrap": (),
    "/etc/istio/proxy": ("istio-envoy",),
    "/etc/istio/pod": ("istio-podinfo",),
    "/etc/certs": (),
    "/var/lib/istio": (),
    "/var/lib/istio/data": ("istio-data",),
    "/var/run/secrets/istio": ("istiod-ca-cert",),
    "/var/run/secrets/istio/crl": ("istio-ca-crl",),
    "/var/run/secrets/tokens": ("istio-token",),
    "/var/run/secrets/credential-uds": ("credential-socket",),
    "/var/run/secrets/workload-spiffe-uds": ("workload-socket",),
    "/var/run/secrets/workload-spiffe-credentials": ("workload-certs", "gke-workload-certificate"),
}
#: Volumes that are empty at the start. An author's of the same name stays as it is: the template
#: says `emptyDir:` without a value, which a merge takes for nothing.
_EMPTY_VOLUMES = frozenset({
    "workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data",
})  # fmt: skip
#: Others that may hand out the identities: SPIRE (istio.io ops/integrations/spire), Google.
_IDENTITY_DRIVERS = {
    "workload-socket": "csi.spiffe.io",
    "gke-workload-certificate": "workloadcertificates.security.cloud.google.com",
}


class Rules(NamedTuple):
    """What istio-init, or istio-validation, is told about the rules that redirect traffic."""

    placed: Placed
    flags: Mapping[str, str]
    odd: tuple[str, ...]

    def excluded_ports(self, flag: str, allowed: ports.Ranges) -> tuple[str, ...]:
        """The ports that a flag leaves out, other than allowed ones."""
        return ports.beyond(self.flags.get(flag, ""), allowed)


def rules(placed: Placed) -> Rules:
    """Read the arguments after the name of the program, `istio-iptables`."""
    args = (placed.container.args or [])[1:]
    return Rules(placed, *containers.flags(args, _RULE_FLAGS, _SWITCHES))


def hollow(of: Rules) -> Iterator[Spot]:
    """Arguments that make it redirect nothing, or elsewhere."""
    placed, flags = of.placed, of.flags
    field, fix = placed.field("args"), f"let Istio's injector make {placed.name}"
    skips = ["--skip-rule-apply"] if placed.name == INIT and "--skip-rule-apply" in flags else []
    if of.odd or skips:
        yield Spot(field, tuple(of.odd or skips),
                   "has arguments that can keep it from redirecting", fix)  # fmt: skip
    if placed.name == VALIDATION and flags.get("--run-validation") != "true":
        yield Spot(field, reason="does not see whether anything is redirected", fix=fix)
    for flag, port in (("-p", "15001"), ("-z", "15006")):
        if flags.get(flag, port) != port:
            yield Spot(field, (f"{flag} {flags[flag]}",),
                       "redirects to another port than the proxy's", fix)  # fmt: skip
    if flags.get("-m", "REDIRECT") not in ("REDIRECT", "TPROXY"):
        yield Spot(field, (f"-m {flags['-m']}",), "redirects nothing", fix)


def passing(of: Rules) -> tuple[set[int], list[str]]:
    """The users and groups that its rules let out unproxied, and what is no number of one."""
    numbers: set[int] = set()
    odd: list[str] = []
    for flag in ("-u", "-g"):
        if flag in of.flags:
            for part in of.flags[flag].split(","):
                found = containers.number(part)
                numbers |= found
                odd += [] if found else [f"{flag} {of.flags[flag]}"]
    return numbers, odd


def own_programs(placed: Placed) -> Iterator[Spot]:
    """Ways to make a container of Istio's run something else than its program, or not end."""
    container = placed.container
    args = container.args or []
    if container.command:
        yield Spot(placed.field("command"), reason="runs a command of its own")
    if container.working_dir not in (None, "", "/"):
        yield Spot(placed.field("workingDir"), reason="looks for its files in another folder")
    if placed.name != PROXY:
        if container.restart_policy:
            yield Spot(placed.field("restartPolicy"),
                       reason="lets the pod start although the container fails")  # fmt: skip
        if args[:1] != ["istio-iptables"]:
            yield Spot(placed.field("args"), reason="does not set the rules that redirect")
    elif args[:1] == ["proxy"]:
        _, odd = containers.flags(args[2:], _PROXY_FLAGS, _SWITCHES)
        if odd:
            yield Spot(placed.field("args"), tuple(odd), "has arguments that can change what it is")
    for field, command in containers.hooks(container):
        if not _only_waits(command):
            yield Spot(placed.field(field), reason="runs a command of its own")
    for index, mount in enumerate(container.volume_mounts or ()):
        if containers.covers_programs(mount.mount_path) or _covers_files(mount):
            yield Spot(placed.field(f"volumeMounts[{index}]"), (mount.mount_path,),
                       "puts a volume over the container's programs or files")  # fmt: skip


def _only_waits(command: list[str]) -> bool:
    """Whether a hook waits for the proxy, or tells it to drain, and can't do more."""
    if command[:2] == ["pilot-agent", "request"]:
        return command[-2:] == ["POST", "drain"] and len(command) <= 5
    if command[:2] == ["pilot-agent", "wait"]:
        return not any("url" in part and "//localhost:" not in part for part in command)
    return command[:1] in _SLEEPS


def _covers_files(mount: VolumeMount) -> bool:
    """Whether a volume other than the injector's is where the proxy's own files are."""
    path = containers.mount_path(mount.mount_path)
    return mount.name not in _OWN_FOLDERS.get(path, ()) and _is_near_own(path)


@remembered
def _is_near_own(path: str) -> bool:
    return any(
        path == folder or path.startswith(folder + "/") or folder.startswith(path + "/")
        for folder in _OWN_FOLDERS
    )


def filled_volumes(pod: Pod) -> Iterator[Spot]:
    """Volumes of the proxy's that should be empty: keys in them would be its identity and trust."""
    for index, volume in enumerate(pod.spec.volumes or ()):
        driver = _IDENTITY_DRIVERS.get(volume.name)
        handed_out = volume.csi is not None and volume.csi.driver == driver
        empty = volume.name in _EMPTY_VOLUMES and volume.empty_dir is not None
        if (driver or volume.name in _EMPTY_VOLUMES) and not handed_out and not empty:
            yield Spot(f"spec.volumes[{index}]", (volume.name,),
                       "is the proxy's, and not for others to fill")  # fmt: skip


def guarded_config(config: Config) -> list[str]:
    """The keys of a proxy's configuration that only the mesh's own may have."""
    return sorted(_GUARDED_KEYS & config.keys())


def guarded_metadata(config: Config) -> list[str]:
    """The variables of `proxyMetadata` that only the mesh's own may set."""
    return sorted(name for name in _metadata(config) if name.startswith(_GUARDED_ENV))


def _metadata(config: Config) -> Collection[str]:
    found = config.get("proxyMetadata")
    return found if isinstance(found, Mapping) else ()


def captures(config: Config) -> bool:
    """Whether a proxy's configuration leaves the interception on."""
    return config.get("interceptionMode", "") in _CAPTURING


def undoing_env(placed: Placed) -> tuple[str, ...]:
    """Variables in a container of Istio's that undo it, whoever put them there.

    An author's come through the pod's `proxyMetadata`, a ProxyConfig resource of the namespace, or
    a container with the proxy's name.
    """
    env = placed.variables.listed
    count = Counter(variable.name for variable in env)
    odd = {
        name
        for name, times in count.items()
        if name.startswith(_UNDOING_ENV) or (times > 1 and name.startswith(_GUARDED_ENV))
    }
    for variable in env:
        if variable.name == "ISTIO_META_INTERCEPTION_MODE":
            odd |= set() if variable.value in ("REDIRECT", "TPROXY") else {variable.name}
        elif variable.name == "PROXY_CONFIG":
            config = None if variable.value is None else proxyconfig.parse(variable.value)
            if (
                config is None
                or _UNDOING_KEYS & config.keys()
                or not captures(config)
                or any(name.startswith(_UNDOING_ENV) for name in _metadata(config))
            ):
                odd.add(variable.name)
    return tuple(sorted(odd))
