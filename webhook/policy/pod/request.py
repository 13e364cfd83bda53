"""What is reviewed: the parts of an admission request that decide."""

from collections.abc import Mapping

import msgspec

from webhook.policy.pod.objects import Object


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to review, decoded."""

    #: CREATE, UPDATE, DELETE or CONNECT.
    operation: str = "CREATE"
    #: The request's namespace: the object's own may be empty.
    namespace: str = ""
    subresource: str = ""
    object: Object | None = None
    old: Object | None = None
    #: For a controller: whether the pod template is new or differs from the stored one.
    template_changed: bool = True
    #: The object is stored already and looked at, not asked for.
    stored: bool = False
    #: The review is of an ingress controller's namespace.
    ingress: bool = False
    #: Annotations and labels of the namespace, if they are known: what its pods have from there is
    #: the admin's, not the author's. The webhook never knows them.
    namespace_annotations: Mapping[str, str] | None = None
    namespace_labels: Mapping[str, str] | None = None
