"""Build the image on a stand-in for its base image: `python -m tests.image FOLDER`.

FOLDER gets `mendix-mesh.tar`, for `docker load` or `ctr images import`. The stand-in has the Python
of this machine.
"""

import sys
import tempfile
from pathlib import Path

from tests.image.buildah import ImageError, Store, missing, wheels


def main(folder: Path) -> None:
    """Write the image into a folder, and print its size."""
    if reason := missing():
        sys.exit(reason)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        try:
            store = Store(Path(place), wheels())
            image = store.open(store.build())
            store.save(image.id, folder / "mendix-mesh.tar", "mendix-mesh:dev")
        except ImageError as error:
            sys.exit(str(error))
        print(f"{folder}/mendix-mesh.tar: mendix-mesh:dev, {image.size / 1e6:.0f} MB unpacked")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
