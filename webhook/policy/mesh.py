"""The interface of a mesh: how a pod opts in, what authors may set, what proves it is in the mesh.

A mesh reports facts about a pod as occurrences. An occurrence has a field and the offending values.
If the check's own text is too general, it also has a reason and a fix. The checks turn them into
violations.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from webhook.policy.inputs import CHECK as INPUT
from webhook.policy.inputs import Inputs
from webhook.policy.occurrences import Level, Occurrence, annotation, label
from webhook.policy.pod.workload import NOBODY, Placed, Pod, Users
from webhook.policy.proofs import Proofs
from webhook.policy.settings import NOTHING, Allowed, Settings

__all__ = ["Level", "Mesh", "Occurrence", "Want", "annotation", "label"]

#: The annotation that our mutating webhook writes on a pod before any injector sees it. Its value
#: is `allowed`, or what the author is not allowed to set, as `check field, check field`. After
#: injection the pod no longer shows what the author wrote and what the mesh or the namespace added.
RECORD = "mendix-mesh.io/inputs"
ALLOWED = "allowed"
#: The maximum number of recorded inputs, and the entry that marks a longer list. With this entry,
#: all inputs count.
_MOST_RECORDED, _MORE = 20, "more"
#: The maximum length of a record in characters, enough for the longest keys. Our webhook writes no
#: longer ones.
_LONGEST_RECORD = 16_384
#: The maximum length of a field in a record. The API server accepts no longer keys.
_LONGEST_KEY = 512
#: The check for containers and volumes that only the injector may add.
BROUGHT = "proxy-brought"
#: The checks for which the mesh's containers alone are evidence.
BYPASSED, FORGED, IMAGE = "capture-bypassed", "proxy-forged", "proxy-image-untrusted"
OVERRIDDEN, CONTROL_PLANE = "proxy-env-overridden", "control-plane-elsewhere"
DISABLED, OPEN, USER = "mtls-disabled", "accepts-plaintext", "proxy-uid"
#: The form of names, kinds, images and ports. The injectors paste them into their templates, before
#: the API server validates them. It never validates the kind of an owner or the tag of an image.
PLAIN_NAME = r"[A-Za-z0-9._:/@+~-]*"
_PLAIN_NAME = re.compile(PLAIN_NAME, re.ASCII)


class Want(NamedTuple):
    """A label or annotation that a pod must have to be in the mesh."""

    place: Literal["labels", "annotations"]
    key: str
    value: str


class Found(NamedTuple):
    """An input that authors are not allowed to set, and the check that reports it."""

    check: str
    occurrence: Occurrence
    #: Whether it could change the injector's template, and with it our record.
    splits: bool = False


class Record(NamedTuple):
    """What is recorded of a pod that no injector has seen; None if nothing is recorded."""

    text: str | None
    #: The checks of inputs that could change the injector's template.
    splits: Collection[str] = ()


_NOTHING: tuple[Occurrence, ...] = ()
_KEPT_OUT = (
    "opts the pod out of the mesh; mendix-mesh sets it if another input could change the "
    "injector's template",
    "author: correct the other lines, and remove it if you set it",
)


class Mesh:
    """The interface between policy and a mesh. By default it finds nothing.

    All methods are pure. They accept stored pods and the pods of templates. Each module in `meshes`
    has a `MESH`, a subclass that is created with the settings.
    """

    name: str
    #: The name of the proxy container; empty for a mesh without sidecars.
    proxy_name: str = ""
    #: Names of the volumes that only the injector may add.
    volume_names: Collection[str] = frozenset()
    #: Whether the injector copies annotations of the namespace to the pod.
    inherits: bool = False
    #: Annotations that the mesh's agents on nodes write through pods/status, where they are not
    #: judged.
    of_agents: Collection[str] = frozenset()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: The annotations and labels that authors may set.
        self.annotations: Inputs | None = None
        self.labels: Inputs | None = None
        self.proofs = Proofs(self)

    def prove(self, pod: Pod) -> Iterator[tuple[str, Occurrence]]:
        """Yield what is wrong with the mesh's containers. `pod` has only these containers."""
        return iter(())

    def proven(self, pod: Pod, check: str) -> Sequence[Occurrence]:
        """Return what `prove` found for a check in the containers of a pod."""
        return (pod.proof or self.proofs.of(pod)).occurrences.get(check, _NOTHING)

    def users(self, pod: Pod) -> Users:
        """Return the users and groups whose traffic is not captured, per the mesh's containers."""
        return NOBODY

    def inputs(self, pod: Pod) -> Mapping[str, Sequence[Occurrence]]:
        """Return the author's inputs that are not allowed, by the check that reports them.

        The result is computed once per pod. For a new pod, the record of our mutating webhook shows
        which inputs are from the author. Without a record, everything counts as the author's except
        what comes from the namespace.
        """
        if pod.inputs is None:
            occurrences: dict[str, list[Occurrence]] = {}
            # Usually the record says `allowed`, and nothing must be checked again.
            if not (pod.recorded and pod.annotations.get(RECORD) == ALLOWED):
                for found in self._authors(pod, self._said(pod)):
                    occurrences.setdefault(found.check, []).append(found.occurrence)
            pod.inputs = occurrences
        return pod.inputs

    def record(self, pod: Pod) -> Record:
        """Return the record for a pod that no injector has seen."""
        said = list(islice(self._said(pod), _MOST_RECORDED + 1))
        if not said and not self.inherits and RECORD not in pod.annotations:
            return Record(None)
        found = [f"{one.check} {one.occurrence.field[:_LONGEST_KEY]}" for one in said]
        more = [_MORE] if len(found) > _MOST_RECORDED else []
        text = ", ".join([*dict.fromkeys(found[:_MOST_RECORDED]), *more]) or ALLOWED
        return Record(text, {INPUT} if more else {one.check for one in said if one.splits})

    def _said(self, pod: Pod) -> Iterator[Found]:
        """Yield all inputs in the pod that are not in the allow-lists, from the author or not."""
        if self.annotations is None or self.labels is None or self.is_infrastructure(pod):
            return
        brought = [] if pod.final else self.brought(pod)
        for placed in brought:
            yield Found(BROUGHT, Occurrence(placed.field(), (placed.name,)))
        # One cause gets one line: an author who adds the proxy also adds its volumes and labels.
        submitted = not pod.final and not brought
        if submitted:
            for name in self.volume_names & pod.volumes.keys() if pod.spec.volumes else ():
                yield Found(
                    BROUGHT,
                    Occurrence(
                        f"spec.volumes[{name}]",
                        (name,),
                        "uses a volume name that is reserved for the injector",
                        "author: rename the volume",
                    ),
                )
        yield from self._keys(pod, submitted)
        for placed in pod.to_be_filled:
            for reason in self.customised(placed):
                yield Found(INPUT, Occurrence(placed.field(), (), reason))
        yield from self._names(pod)

    def customised(self, placed: Placed) -> Iterable[str]:
        """Yield what an author must not set in a container that the injector completes."""
        return ()

    def _keys(self, pod: Pod, submitted: bool) -> Iterator[Found]:
        """Yield annotations and labels that are not in the lists."""
        assert self.annotations is not None  # noqa: S101 - called by _said alone
        assert self.labels is not None  # noqa: S101
        for where, inputs, pairs in (
            (annotation, self.annotations, pod.annotations), (label, self.labels, pod.labels),
        ):  # fmt: skip
            for key, value in pairs.items():
                # No mesh reads most keys.
                if (key in inputs.listed or key in inputs.reads) and (
                    problem := inputs.problem(key, value, submitted=submitted)
                ):
                    if pod.by_status and key in self.of_agents:
                        continue
                    check, reason, fix, splits = problem
                    yield Found(check, Occurrence(where(key), (value,), reason, fix), splits)

    def _names(self, pod: Pod) -> Iterator[Found]:
        """Yield each place with a name that the injector could read as a part of its template.

        A stored pod's names were validated, except those of its owners. Only the injector reads
        them, so an update can't do harm with them.
        """
        if pod.update:
            return
        for owner in pod.meta.owner_references or ():
            named = (owner.name, owner.kind, owner.api_version)
            if not _PLAIN_NAME.fullmatch("".join(named)):
                yield Found(INPUT, Occurrence("metadata.ownerReferences", _not_plain(named),
                                              "has an invalid name, kind or apiVersion",
                                              "author: remove the owner reference"),
                            splits=True)  # fmt: skip
                break  # one entry is enough, and there may be very many
        for field, texts in () if pod.final else _texts(pod):
            if not _PLAIN_NAME.fullmatch("".join(texts)):
                yield Found(INPUT, Occurrence(field, _not_plain(texts), "has an invalid name",
                                              "author: correct it"), splits=True)  # fmt: skip

    def _authors(self, pod: Pod, said: Iterator[Found]) -> Iterable[Found]:
        """Return only the inputs that are from the author."""
        if not pod.recorded:
            return said
        record = pod.annotations.get(RECORD)
        if record is None or record.endswith(_MORE) or len(record) > _LONGEST_RECORD:
            return [
                found for found in said if not self._from_namespace(pod, found.occurrence.field)
            ]
        listed = dict.fromkeys(record.split(", ")) if record != ALLOWED else {}
        kept = [found for found in said if f"{found.check} {found.occurrence.field}" in listed]
        for found in kept:
            listed.pop(f"{found.check} {found.occurrence.field}", None)
        return [*kept, *(_recorded(entry) for entry in listed)]

    def _from_namespace(self, pod: Pod, field: str) -> bool:
        """Return whether the namespace, and so its admin, gave the pod an annotation."""
        if not self.inherits or not pod.namespace_annotations:
            return False
        key = field.removeprefix("metadata.annotations[").removesuffix("]")
        value = pod.namespace_annotations.get(key)
        return value is not None and value == pod.annotations.get(key)

    def altered_record(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield the record if an update changes it. Only our mutating webhook may write it."""
        if pod.old is not None and pod.old.annotations.get(RECORD) != pod.annotations.get(RECORD):
            yield Occurrence(annotation(RECORD), (pod.annotations.get(RECORD, "removed"),),
                             "is mendix-mesh's record of what the author set",
                             "author: do not change it")  # fmt: skip

    def claims(self, placed: Placed) -> bool:
        """Return whether a container claims, by its name and list, to be the mesh's own."""
        return False

    def fills_in(self, placed: Placed) -> bool:
        """Return whether the injector would complete a container, which only customizes its own."""
        return False

    def allowed(self, pod: Pod) -> Allowed:
        """Return the traffic of this pod that an admin allows to bypass the mesh."""
        if not self.settings.allow:
            return NOTHING
        return self.settings.allowed(pod.namespace, pod.labels, pod.today)

    def opt_in(self, pod: Pod, *, task: bool) -> Iterable[Want]:
        """Yield what the pod needs to join the mesh; nothing if its author opted out.

        A task pod must be able to end although its proxy runs.
        """
        return ()

    def keep_out(self, pod: Pod) -> Iterable[Want]:
        """Yield what keeps the injector away from a pod that could change its template."""
        return ()

    def kept_out(self, pod: Pod) -> tuple[str, str]:
        """Return reason and fix of an opt-out that may be from `keep_out`, else two empty texts."""
        record = pod.annotations.get(RECORD, ALLOWED)
        return _KEPT_OUT if pod.recorded and record != ALLOWED else ("", "")

    def is_infrastructure(self, pod: Pod) -> bool:
        """Return whether the pod is the mesh's gateway: a proxy without an application."""
        return False

    def proxy_of(self, pod: Pod) -> str:
        """Return the name of the container that is or must be the pod's proxy; "" if none."""
        return self.proxy_name

    def brought(self, pod: Pod) -> list[Placed]:
        """Return the mesh's containers that the author put into a pod that no injector has seen.

        Containers that the injector will complete, and the mesh's own gateways, are not included.
        """
        if not pod.mesh_containers or self.is_infrastructure(pod):
            return []
        return pod.mesh_containers

    def opt_outs(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each label or annotation that opts the pod out of the mesh."""
        return _NOTHING

    def injector_bypasses(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each label that makes the API server skip the injector."""
        return _NOTHING

    def missing(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield evidence that a stored pod is outside the mesh."""
        return _NOTHING

    def forgeries(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield evidence that the injector did not add the proxy or its setup."""
        return _NOTHING

    def untrusted_images(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield images of the mesh's containers that are not trusted."""
        return _NOTHING

    def capture_bypasses(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each setting that makes traffic bypass the proxy."""
        return _NOTHING

    def identity_clashes(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield containers that run as the proxy's user or group, whose traffic isn't captured."""
        return _NOTHING

    def mtls_disabled(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each setting that disables mutual TLS."""
        return _NOTHING

    def overridden_env(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each place where the proxy's own environment is overridden."""
        return _NOTHING

    def foreign_control_plane(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each setting that names another control plane than the cluster's."""
        return _NOTHING

    def exposed_identity(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each place where a workload container can read the proxy's key or token."""
        return _NOTHING

    def forged_status(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield annotations that only the mesh itself may set."""
        return _NOTHING

    def opt_in_removed(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield what an update removes although the control plane reads it from running pods."""
        return _NOTHING

    def unreachable_runtime(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield runtimes and systems whose traffic the mesh can't capture."""
        return _NOTHING

    def late_proxy(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield init containers that run before the proxy."""
        return _NOTHING

    def lasting_before_rules(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield init containers that keep running and start before traffic is redirected."""
        return _NOTHING

    def plaintext_inbound(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield each setting by which the pod accepts clients outside the mesh."""
        return _NOTHING

    def ignored_labels(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield labels that have an effect only as annotations."""
        return _NOTHING


def _texts(pod: Pod) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names that a pod's author writes, by the field that has them."""
    meta = pod.meta
    yield "metadata.name", (meta.name or "", meta.generate_name or "")
    yield "metadata.labels", (*pod.labels, *pod.labels.values())
    yield "metadata.annotations", tuple(pod.annotations)
    yield "spec.serviceAccountName", (pod.spec.service_account_name or "",)
    yield "spec.containers", tuple([
        text
        for placed in pod.containers
        for text in (placed.container.name, placed.container.image or "")
    ])  # fmt: skip
    yield "spec.containers[*].ports", tuple([
        text or ""
        for placed in pod.containers
        for port in placed.container.ports or ()
        for text in (port.name, port.protocol, port.host_ip)
    ])  # fmt: skip


def _not_plain(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the first name that is not plain, shortened."""
    return next((text[:80],) for text in texts if not _PLAIN_NAME.fullmatch(text))


def _recorded(entry: str) -> Found:
    """Return a recorded input that the injector has since removed from the pod."""
    check, _, field = entry.partition(" ")
    if check == BROUGHT:
        return Found(check, Occurrence(field))
    return Found(
        check,
        Occurrence(
            field,
            reason="was set by the author in a way that is not allowed",
            fix="author: remove it from the pod or its template",
        ),
    )
