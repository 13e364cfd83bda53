"""Caches what a mesh's containers prove by themselves, because many pods have the same ones.

The cache key is the outline of the containers. They are judged in a pod with no other content, so
that the result can't depend on anything else. The data comes from outside, so its number and size
are limited.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.objects import Container, PodSpec, SecurityContext
from webhook.policy.pod.workload import Claimant, Placed, Pod, Proof, Users

#: The maximum number of cached proofs, and the limits of their size in bytes and of their
#: variables.
_MOST, _LONGEST, _MOST_VARIABLES = 128, 16_384, 200
_NO_CONTEXT = SecurityContext()

#: All fields of a container that can prove something. Equal containers have equal outlines.
Outline = tuple[Any, ...]


class Prover(Claimant, Protocol):
    """The methods of a mesh that are used here."""

    def prove(self, pod: Pod) -> Iterable[tuple[str, Occurrence]]:
        """Yield what is wrong with the mesh's containers, and the check that reports it."""

    def users(self, pod: Pod) -> Users:
        """Return the users and groups whose traffic is not captured."""


class Proofs:
    """The cached proofs of one mesh."""

    def __init__(self, mesh: Prover) -> None:
        self._mesh = mesh
        self.known: dict[tuple[Outline, ...], Proof] = {}

    def of(self, pod: Pod) -> Proof:
        """Return the proof of a pod. Raise `UndecodableError` if its variables can't be read."""
        if pod.proof is None:
            outlines = tuple([_outline(placed) for placed in pod.mesh_containers])
            pod.proof = self.known.get(outlines) or self._made(outlines)
        return pod.proof

    def _made(self, outlines: tuple[Outline, ...]) -> Proof:
        placed = [_container(outline) for outline in outlines]
        spec = PodSpec(
            init_containers=[made for kind, made in placed if kind == "initContainers"],
            containers=[made for kind, made in placed if kind == "containers"],
        )
        pod = Pod(None, spec, self._mesh, final=True)
        occurrences: dict[str, list[Occurrence]] = {}
        for check, occurrence in self._mesh.prove(pod):
            occurrences.setdefault(check, []).append(occurrence)
        proof = Proof(pod, occurrences, self._mesh.users(pod))
        if _size(outlines) <= _LONGEST and _variables(pod) <= _MOST_VARIABLES:
            if len(self.known) >= _MOST:
                self.known.clear()
            self.known[outlines] = proof
        return proof


def _outline(placed: Placed) -> Outline:
    container = placed.container
    context = container.security_context or _NO_CONTEXT
    return (
        placed.kind, container.name, container.image, tuple(container.command or ()),
        tuple(container.args or ()), bytes(container.env), bool(container.env_from),
        container.restart_policy, context.privileged, context.run_as_user, context.run_as_group,
    )  # fmt: skip


def _container(outline: Outline) -> tuple[str, Container]:
    kind, name, image, command, args, env, imports, restart, privileged, user, group = outline
    context = SecurityContext(privileged=privileged, run_as_user=user, run_as_group=group)
    return kind, Container(
        name=name, image=image, command=list(command), args=list(args), env=msgspec.Raw(env),
        env_from=[None] if imports else None, restart_policy=restart,
        security_context=context,
    )  # fmt: skip


def _size(outlines: tuple[Outline, ...]) -> int:
    """Return the size of a cache entry in bytes. Each text has some overhead."""
    return sum(
        len(env) + len(name) + len(image or "") + sum(16 + len(text) for text in (*command, *args))
        for _, name, image, command, args, env, *_ in outlines
    )


def _variables(pod: Pod) -> int:
    return sum(len(placed.variables.listed) for placed in pod.mesh_containers)
