"""The labels by which a namespace is enrolled, and what they may say."""

#: Which mesh its pods join.
MESH_LABEL = "mendix-mesh.io/mesh"
#: How strict the webhook is; the values are `validate.MODES`.
MODE_LABEL = "mendix-mesh.io/mode"
MESHES = ("linkerd", "istio", "ambient")
