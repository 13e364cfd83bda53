"""Namespaces with an unknown mesh label. After a typo, pods are denied instead of left outside."""

from webhook.policy.mesh import Mesh


class Unknown(Mesh):
    """An unknown mesh: nothing opts in, and the check `unknown-mesh` denies everything."""

    name = "unknown"


MESH = Unknown
