"""The rule for the fuzzer: an admitted pod satisfies an oracle that is independent of policy."""

from tests.fuzz.edits import Life
from tests.oracle import ambient, istio, linkerd
from tests.unit.policy.judge import Json, broken, judge

ORACLES = {
    "linkerd": linkerd.complaints,
    "istio": istio.complaints,
    "ambient": ambient.complaints,
}


def complaints(by: str, pod: Json, untouched: Json | None = None) -> list[str]:
    """Return the complaints of a mesh's oracle about a stored pod.

    `untouched` is the injector's result for a pod without changes by its author. Everything that a
    proxy has in addition must be harmless.
    """
    return list(ORACLES[by](pod, untouched))


def holds(by: str, life: Life) -> None:
    """Raise AssertionError if policy admits a pod whose traffic bypasses the mesh.

    In mode enforce, our mutating webhook sees each pod before it is stored, so each one has its
    record. An update is checked only if the pod had no complaints before it.
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
    """Raise AssertionError if policy denies a pod for its mesh admin's configuration."""
    denied = broken(judge(pod, by=by))
    assert not denied, f"{by} denies, for {denied}, what the mesh's admin configured"


def _text(by: str, how: str, found: list[str]) -> str:
    return f"{by} lets a pod be {how} of which the oracle says: {'; '.join(found)}"
