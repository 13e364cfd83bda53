"""What the fuzzer holds policy to: what is admitted satisfies an oracle that knows no policy."""

from tests.fuzz.edits import Life
from tests.oracle import ambient, istio, linkerd
from tests.unit.policy.judge import Json, broken, judge

ORACLES = {
    "linkerd": linkerd.complaints,
    "istio": istio.complaints,
    "ambient": ambient.complaints,
}


def complaints(by: str, pod: Json, untouched: Json | None = None) -> list[str]:
    """Return what the oracle of a mesh has against a stored pod.

    `untouched` is what the injector makes of a pod whose author asked for nothing: what a proxy has
    beyond that must be harmless.
    """
    return list(ORACLES[by](pod, untouched))


def holds(by: str, life: Life) -> None:
    """Raise AssertionError if policy admits what carries traffic past the mesh.

    In enforce no pod is stored that our mutating webhook has not seen, so each one has its record.
    An update counts if the pod was fine before it.
    """
    if life.stored is None:
        return
    found = complaints(by, life.stored, life.untouched)
    allowed = judge(life.stored, by=by).allowed
    assert not allowed or not found, _text(by, "created", found)
    if life.updated is not None and allowed:
        found = complaints(by, life.updated)
        admitted = judge(life.updated, life.stored, by=by).allowed
        assert not admitted or not found, _text(by, "updated", found)


def admits(by: str, pod: Json) -> None:
    """Raise AssertionError if policy denies a pod for what the admin of its mesh configured."""
    denied = broken(judge(pod, by=by))
    assert not denied, f"{by} denies, for {denied}, what the mesh's admin configured"


def _text(by: str, how: str, found: list[str]) -> str:
    return f"{by} lets a pod be {how} of which the oracle says: {'; '.join(found)}"
