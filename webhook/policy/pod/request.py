"""The parts of an admission request that policy uses."""

from collections.abc import Mapping

import msgspec

from webhook.policy.pod.objects import Object


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded request to review."""

    #: CREATE, UPDATE, DELETE or CONNECT.
    operation: str = "CREATE"
    #: The namespace of the request. The object's own may be empty.
    namespace: str = ""
    subresource: str = ""
    object: Object | None = None
    old: Object | None = None
    #: For a controller: whether the pod template is new or differs from the stored one.
    template_changed: bool = True
    #: Whether the object is already stored, and only inspected.
    stored: bool = False
    #: Whether the namespace belongs to an ingress controller.
    ingress: bool = False
    #: Annotations and labels of the namespace, if known. Values that pods get from there are the
    #: admin's and not the author's. The webhook never knows them.
    namespace_annotations: Mapping[str, str] | None = None
    namespace_labels: Mapping[str, str] | None = None
