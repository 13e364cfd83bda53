"""The few fields of Kubernetes objects that policy reads, as types for decoding.

Decoding directly into these types skips all other fields, which are most of an object. This makes
reviews fast. Null and missing values are equal, as in Go.
"""

from typing import Annotated, Any

import msgspec

#: The null value in undecoded JSON.
NULL = msgspec.Raw(b"null")


class _Fields(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base class: camelCase in JSON, unknown fields are ignored, immutable, comparable."""


class OwnerReference(_Fields, frozen=True, gc=False, rename="camel"):
    """The owner of an object. `controller` marks the one that manages it."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool | None = None

    @property
    def group(self) -> str:
        """Return the API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]


class Meta(_Fields, frozen=True, gc=False, rename="camel"):
    """metadata of an object or of a pod template."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None

    @property
    def controller(self) -> OwnerReference | None:
        """Return the owner that manages this object, if any."""
        for owner in self.owner_references or ():
            if owner.controller:
                return owner
        return None


class EnvVar(_Fields, frozen=True, gc=False, rename="camel"):
    """One environment variable. `value` is None if `valueFrom` is set."""

    name: str = ""
    value: str | None = None


class Capabilities(_Fields, frozen=True, gc=False, rename="camel"):
    """Linux capabilities added to and dropped from the runtime's default set."""

    add: list[str] | None = None
    drop: list[str] | None = None


class SecurityContext(_Fields, frozen=True, gc=False, rename="camel"):
    """securityContext of a pod (without capabilities) or of a container (with only one group)."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    supplemental_groups: list[int] | None = None
    privileged: bool | None = None
    capabilities: Capabilities | None = None


class VolumeMount(_Fields, frozen=True, gc=False, rename="camel"):
    """The path at which a container mounts a volume."""

    name: str = ""
    mount_path: str = ""


class ContainerPort(_Fields, frozen=True, gc=False, rename="camel"):
    """A port that a container declares; protocol defaults to TCP."""

    name: str | None = None
    container_port: int = 0
    protocol: str | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")


class Container(_Fields, frozen=True, gc=False, rename="camel"):
    """A container of any of a pod's three lists."""

    name: str = ""
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    #: The variables as undecoded JSON. They can be most of a pod, and only those of the mesh's own
    #: containers are read (`policy.variables`).
    env: msgspec.Raw = NULL
    env_from: list[Any] | None = None
    ports: list[ContainerPort] | None = None
    security_context: SecurityContext | None = None
    restart_policy: str | None = None
    volume_mounts: list[VolumeMount] | None = None
    #: For an ephemeral container: the container whose processes it shares.
    target_container_name: str | None = None
    #: Lifecycle hooks by name. Only those of gateways are read.
    lifecycle: dict[str, msgspec.Raw] | None = None
    #: Probes, which may run a command. Only those of gateways are read.
    liveness_probe: msgspec.Raw = NULL
    readiness_probe: msgspec.Raw = NULL
    startup_probe: msgspec.Raw = NULL


#: Real pods have far fewer containers. The limit keeps a hostile pod from blocking the server.
Containers = Annotated[list[Container], msgspec.Meta(max_length=500)]


#: A volume: its name and its source, each as undecoded JSON by field. Few of them are read.
Volume = dict[str, msgspec.Raw]


class Csi(_Fields, frozen=True, gc=False, rename="camel"):
    """A volume from a CSI driver."""

    driver: str = ""


class ConfigMap(_Fields, frozen=True, gc=False, rename="camel"):
    """A volume with the keys of a ConfigMap: all of them, or those that are listed."""

    name: str = ""
    items: list[Any] | None = None


class FieldRef(_Fields, frozen=True, gc=False, rename="camel"):
    """A field of the pod."""

    field_path: str = ""


class DownwardItem(_Fields, frozen=True, gc=False, rename="camel"):
    """A file with the value of a pod's field, or of a container's resource."""

    path: str = ""
    field_ref: FieldRef | None = None
    resource_field_ref: dict[str, Any] | None = None


class Downward(_Fields, frozen=True, gc=False, rename="camel"):
    """A volume of files from the downward API."""

    items: list[DownwardItem] | None = None


class Projected(_Fields, frozen=True, gc=False, rename="camel"):
    """A volume of several sources, each under the name of its kind."""

    sources: list[dict[str, msgspec.Raw]] | None = None

    @property
    def kinds(self) -> list[set[str]]:
        """Return the kinds of its sources; each entry has one."""
        return [set(source) for source in self.sources or ()]


#: The volume sources whose contents are read, by field name.
SOURCES: dict[str, type] = {
    "csi": Csi, "configMap": ConfigMap, "downwardAPI": Downward, "projected": Projected,
}  # fmt: skip


class HostAlias(_Fields, frozen=True, gc=False, rename="camel"):
    """Names that the pod resolves from its own hosts file."""

    hostnames: list[str] | None = None


class OS(_Fields, frozen=True, gc=False, rename="camel"):
    """The operating system for which a pod is built."""

    name: str = ""


class PodSpec(_Fields, frozen=True, gc=False, rename="camel"):
    """spec of a pod or of a pod template."""

    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(name="hostPID", default=None)
    share_process_namespace: bool | None = None
    runtime_class_name: str | None = None
    os: OS | None = None
    node_selector: dict[str, str | None] | None = None
    dns_policy: str | None = None
    #: Only its presence is read.
    dns_config: msgspec.Raw = NULL
    host_aliases: list[HostAlias] | None = None
    #: The kubelet writes the first of these that is set, or else the pod's name, to the hosts file.
    hostname_override: str | None = None
    hostname: str | None = None
    restart_policy: str | None = None
    service_account_name: str | None = None
    security_context: SecurityContext | None = None
    init_containers: Containers | None = None
    containers: Containers | None = None
    ephemeral_containers: Containers | None = None
    volumes: list[Volume] | None = None


class Template(_Fields, frozen=True, gc=False, rename="camel"):
    """A pod template."""

    metadata: Meta | None = None
    spec: PodSpec | None = None


class JobSpec(_Fields, frozen=True, gc=False, rename="camel"):
    """spec of a Job."""

    template: Template | None = None


class JobTemplate(_Fields, frozen=True, gc=False, rename="camel"):
    """The template of the Jobs that a CronJob creates."""

    spec: JobSpec | None = None


class IngressService(_Fields, frozen=True, gc=False, rename="camel"):
    """The Service of an Ingress backend."""

    name: str = ""


class IngressBackend(_Fields, frozen=True, gc=False, rename="camel"):
    """The backend to which an Ingress sends a request."""

    service: IngressService | None = None


class IngressPath(_Fields, frozen=True, gc=False, rename="camel"):
    """One path of an Ingress rule."""

    backend: IngressBackend | None = None


class IngressHTTP(_Fields, frozen=True, gc=False, rename="camel"):
    """The paths of an Ingress rule."""

    paths: list[IngressPath] | None = None


class IngressRule(_Fields, frozen=True, gc=False, rename="camel"):
    """One rule of an Ingress. Its host is not read."""

    http: IngressHTTP | None = None


class Spec(PodSpec, frozen=True, gc=False, rename="camel"):
    """spec of any reviewed kind. Fields with the same name have the same type in all kinds."""

    template: Template | None = None
    job_template: JobTemplate | None = None
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: list[IngressRule] | None = None


class Object(_Fields, frozen=True, gc=False, rename="camel"):
    """An object of any reviewed kind."""

    api_version: str = ""
    kind: str = ""
    metadata: Meta | None = None
    spec: Spec | None = None


class UndecodableError(ValueError):
    """Raised if a field of an object does not have the type that Kubernetes defines for it.

    The text names the field, like `… - at $.spec.containers`.
    """


#: Objects up to the first number of bytes are decoded without counting their values. A larger
#: object may have at most the second number of values. Each may take 200 bytes of memory; a pod of
#: Mendix has a few hundred values.
_SMALL, _MOST_VALUES = 131_072, 50_000
#: All bytes but those that come before a value in JSON.
_OTHERS = bytes(sorted(set(range(256)) - set(b",{[")))

_decoder = msgspec.json.Decoder(Object)


def check_size(data: bytes | memoryview | msgspec.Raw) -> None:
    """Raise `UndecodableError` if the JSON of an object has more values than any real one.

    If the values are short, the decoded object takes far more memory than its JSON.
    """
    if len(memoryview(data)) > _SMALL and has_many_values(bytes(data)):
        raise UndecodableError(f"the object has more than {_MOST_VALUES} values")


def has_many_values(text: bytes) -> bool:
    """Return whether a JSON text has more values than any real object."""
    # One pass that leaves only the signs before values is much faster than counting each sign.
    return len(text.translate(None, _OTHERS)) > _MOST_VALUES


def decode(data: bytes | memoryview | msgspec.Raw) -> Object:
    """Decode the JSON of one object of a reviewed kind.

    Raise `UndecodableError` for anything else: invalid JSON, wrong types, hostile nesting, too many
    values.
    """
    check_size(data)
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(str(error)) from None


def convert(document: Any) -> Object:
    """Return an `Object` from an already parsed document, for example from YAML.

    Raise `UndecodableError` as `decode` does. Also raise it for values that JSON can't have: in
    YAML, a string can have half a surrogate pair, and a list can contain itself.
    """
    try:
        data = msgspec.json.encode(document)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, TypeError) as error:
        raise UndecodableError(str(error)) from None
    return decode(data)


def template_of(document: Any) -> Any:
    """Return the pod template of a parsed controller object; None if it has none.

    Whole templates are compared, and not only the fields that policy reads, because any difference
    starts a rollout.
    """
    spec = document.get("spec") if isinstance(document, dict) else None
    if not isinstance(spec, dict):
        return None
    job = spec.get("jobTemplate")
    if isinstance(job, dict) and isinstance(job.get("spec"), dict):
        return job["spec"].get("template")
    return spec.get("template")
