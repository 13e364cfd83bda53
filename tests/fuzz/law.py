"""What the fuzzer holds policy to: what is admitted satisfies an oracle that knows no policy."""

from tests.oracle import ambient, istio, linkerd
from tests.unit.policy.judge import Json, judge

ORACLES = {
    "linkerd": linkerd.complaints,
    "istio": istio.complaints,
    "ambient": ambient.complaints,
}


def complaints(by: str, pod: Json) -> list[str]:
    """What the oracle of a mesh has against a stored pod."""
    return list(ORACLES[by](pod))


def holds(by: str, before: Json, after: Json) -> None:
    """Raise AssertionError if policy admits what carries traffic past the mesh.

    Asked for as a new pod, and as an update of the other one, where that one was fine. A forged pod
    has no mark of its proxy's being brought: so it comes when our mutating webhook was not asked.
    """
    found = complaints(by, after)
    created = judge(after, by=by)
    assert not created.allowed or not found, _text(by, "created", found)
    if judge(before, by=by).allowed and not complaints(by, before):
        updated = judge(after, before, by=by)
        assert not updated.allowed or not found, _text(by, "updated", found)


def _text(by: str, how: str, found: list[str]) -> str:
    return f"{by} lets a pod be {how} of which the oracle says: {'; '.join(found)}"
