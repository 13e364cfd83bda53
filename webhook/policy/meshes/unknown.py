"""A namespace whose mesh label names no mesh: a typo must not leave its pods outside silently."""

from webhook.policy.mesh import Mesh


class Unknown(Mesh):
    """No mesh at all: nothing opts in, and the check `unknown-mesh` refuses everything."""

    name = "unknown"


MESH = Unknown
