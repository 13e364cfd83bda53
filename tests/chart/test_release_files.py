"""The files of a release: the packaged chart, its digest, the SBOM and the licenses."""

from pathlib import Path

from tests import release_files
from webhook.version import VERSION


def test_the_same_commit_gives_the_same_files(tmp_path: Path) -> None:
    said = [release_files.write(tmp_path / name) for name in ("first", "second")]
    assert said[0] == said[1]
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == [
        "licenses.txt",
        f"mendix-mesh-{VERSION}.cdx.json",
        f"mendix-mesh-{VERSION}.tgz",
        f"mendix-mesh-{VERSION}.tgz.sha256",
    ]
    assert [path for path in names if (tmp_path / "first" / path).read_bytes()
            != (tmp_path / "second" / path).read_bytes()] == []  # fmt: skip
