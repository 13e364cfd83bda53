"""The labels by which a namespace is enrolled, and their allowed values."""

#: The prefix of all our labels and annotations.
DOMAIN = "mendix-mesh.io/"
#: Which mesh its pods join.
MESH_LABEL = "mendix-mesh.io/mesh"
#: The mode; the values are `validate.MODES`.
MODE_LABEL = "mendix-mesh.io/mode"
MESHES = ("linkerd", "istio", "ambient")
