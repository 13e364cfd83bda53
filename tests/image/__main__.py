"""Build the image without a container engine: `python -m tests.image FOLDER`.

FOLDER gets the file tree, `tree`, and the image, `mendix-mesh.tar`, for `docker load` or
`ctr images import`. The base is this machine's own Python, not the one that the Dockerfile names.
"""

import shutil
import sys
from pathlib import Path

from tests.image.archive import write
from tests.image.tree import ImageError, build


def main(folder: Path) -> None:
    """Build the image again into a folder, and say what came out."""
    if (folder / "tree").exists():
        shutil.rmtree(folder / "tree")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        image = build(folder / "tree")
    except ImageError as error:
        sys.exit(str(error))
    write(image, folder / "mendix-mesh.tar", "mendix-mesh:dev")
    print(f"{folder}/tree: {image.size / 1e6:.0f} MB; {folder}/mendix-mesh.tar: mendix-mesh:dev")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
