"""What the verdict on an update depends on. The API server calls the webhook only if it changes.

CNI plugins, kubelets, autoscalers and people write to pods all the time, also while no server of
ours answers. So the chart's CEL conditions leave out writes that cannot change a verdict.
`charts/generate_judged.py` writes this data into the chart, and the tests compare it with policy:
whenever policy finds something new in an update, the data says that the update is judged.
"""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from webhook.policy import checks, meshes
from webhook.policy.inputs import Domains, Input, Inputs, forms
from webhook.policy.mesh import Mesh
from webhook.policy.plaintext.review import KINDS
from webhook.policy.pod.objects import Container, PodSpec
from webhook.policy.settings import Settings

#: The fields of a pod's spec that hold containers.
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


class Keys(NamedTuple):
    """The labels or annotations that are judged."""

    #: Further keys, outside the domains.
    keys: tuple[str, ...]
    domains: Domains
    #: Keys in the domains with which nothing can be wrong.
    free: tuple[str, ...] = ()
    #: Keys that are not judged in an update of pods/status.
    of_agents: tuple[str, ...] = ()

    def judged(self, key: str, *, by_status: bool = False) -> bool:
        """Return whether a change of this key can change a verdict."""
        if key in self.free or (by_status and key in self.of_agents):
            return False
        return key in self.keys or key in self.domains


class Judged(NamedTuple):
    """What is judged in a namespace of one mesh."""

    labels: Keys
    annotations: Keys
    #: Annotations of namespaces, and of the mesh's policy objects.
    of_namespaces: tuple[str, ...]
    of_policies: tuple[str, ...]


def by_mesh(settings: Settings) -> dict[str, Judged]:
    """Return what is judged in each mesh. Only keys of the settings' label selectors are missing.

    A pod can lose an exemption or an allowance with a label that a selector names.
    """
    loaded = [mesh for mesh in meshes.load(settings).values() if mesh.labels is not None]
    return {mesh.name: _judged(mesh, loaded) for mesh in loaded}


def selected_by(settings: Settings) -> set[str]:
    """Return the labels that the selectors of the settings name."""
    rules = (*settings.allow, *settings.exemptions, *settings.levels)
    return {
        key
        for rule in rules
        for key in (
            *rule.selector.match_labels,
            *(expression.key for expression in rule.selector.match_expressions),
        )
    }


def _judged(mesh: Mesh, others: Collection[Mesh]) -> Judged:
    read = {kind: rule.annotations for kind, rule in KINDS[mesh.name].items()}
    namespaces = read.pop("Namespace", ())
    return Judged(
        _keys("labels", mesh, others),
        _keys("annotations", mesh, others),
        tuple(sorted(namespaces)),
        tuple(sorted({key for keys in read.values() for key in keys})),
    )


def pod_fields() -> tuple[str, ...]:
    """Return the fields of a pod's spec that policy reads, except containers."""
    return tuple(name for name in _fields(PodSpec) if name not in CONTAINERS)


def container_fields() -> tuple[str, ...]:
    """Return the fields of a container that policy reads."""
    return _fields(Container)


def _fields(of: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(sorted(field.encode_name for field in msgspec.structs.fields(of)))


def _keys(place: str, mesh: Mesh, others: Collection[Mesh]) -> Keys:
    inputs = _inputs(mesh, place)
    named = set(_named(place, mesh, others))
    starts = {key.removesuffix("*") for key in named if key.endswith("*")} | {*inputs.prefixes}
    whole = {key for key in named if not key.endswith("*")}
    reads = inputs.reads
    domains = Domains(
        *sorted({*reads.starts, *(start for start in starts if start not in reads)}),
        below=reads.below,
        pattern=reads.pattern,
    )
    free = {key for key, one in inputs.listed.items() if place == "labels" and one in _FREE}
    return Keys(
        tuple(sorted(key for key in {*inputs.listed, *whole} if key not in domains)),
        domains,
        tuple(sorted(free - whole)),
        tuple(sorted(mesh.of_agents)) if place == "annotations" else (),
    )


#: As labels, these inputs have the right form with every value that the API server stores.
_FREE = (Input(forms.TEXT), Input(forms.NAME))


def _named(place: str, mesh: Mesh, others: Collection[Mesh]) -> Iterator[str]:
    """Yield the keys that the mesh's checks name; a key that ends in `*` is a start of keys.

    A check of several meshes names the keys of each. Only foreign-mesh reads those of the others.
    """
    for entry in checks.for_mesh(mesh.name):
        for field in entry.check.fields:
            found = re.fullmatch(rf"metadata\.{place}\[(.+)\]", field)
            key = found[1] if found else ""
            if key and (
                entry.check.id == "foreign-mesh"
                or key in _inputs(mesh, place).reads
                or not any(key in _inputs(other, place).reads for other in others)
            ):
                yield key


def _inputs(mesh: Mesh, place: str) -> Inputs:
    inputs = mesh.labels if place == "labels" else mesh.annotations
    assert inputs is not None  # noqa: S101 - each mesh here has lists
    return inputs
