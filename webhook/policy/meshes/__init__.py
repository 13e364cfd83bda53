"""The meshes. Each module or package has `MESH`, a subclass of `Mesh`."""

import pkgutil
from importlib import import_module

from webhook.policy.mesh import Mesh
from webhook.policy.settings import Settings


def load(settings: Settings) -> dict[str, Mesh]:
    """Return each mesh by its name, bound to the settings."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    meshes: list[Mesh] = [module.MESH(settings) for module in modules]
    return {mesh.name: mesh for mesh in meshes}
