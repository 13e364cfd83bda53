"""The chart's condition for updates of pods, in Python: what tests/cluster compares with CEL."""

from collections.abc import Collection
from typing import Any

from webhook.policy.judged import CONTAINERS, Judged, Keys, container_fields, pod_fields

Json = dict[str, Any]


def touched(
    old: Json, new: Json, judged: Judged, *, selected: Collection[str] = (), subresource: str = ""
) -> bool:
    """Return whether an update of a pod changes anything that is judged.

    `selected` are the labels that the selectors of the settings name.
    """
    was, now = old.get("spec") or {}, new.get("spec") or {}
    return (
        any(was.get(field) != now.get(field) for field in pod_fields())
        or any(_containers(was, place) != _containers(now, place) for place in CONTAINERS)
        or _marks(old, new, "labels", judged.labels, selected, subresource)
        or _marks(old, new, "annotations", judged.annotations, (), subresource)
    )


def _containers(spec: Json, place: str) -> list[list[Any]]:
    return [[one.get(field) for field in container_fields()] for one in spec.get(place) or ()]


def _marks(
    old: Json, new: Json, place: str, keys: Keys, more: Collection[str], subresource: str
) -> bool:
    was, now = ((one.get("metadata") or {}).get(place) or {} for one in (old, new))
    by_status = subresource == "status"
    return any(
        was.get(key) != now.get(key) and (key in more or keys.judged(key, by_status=by_status))
        for key in {*was, *now}
    )
