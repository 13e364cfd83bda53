"""The pages' templates and files are part of the installed package."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[4]
PACKAGE = ROOT / "webhook" / "cluster" / "dashboard"


def test_the_wheel_holds_every_template_and_every_file_that_is_served(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    served = {
        str(file.relative_to(ROOT))
        for folder in ("templates", "static")
        for file in (PACKAGE / folder).iterdir()
    }
    assert len(served) > 10
    assert served <= held
