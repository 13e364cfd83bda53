"""The sets of values with which the chart is rendered, and the results.

The sets are in the chart's ci/, where chart-testing also reads them, and beside its values.yaml,
for users. golden/ contains the result of three of them, for reviews: all objects of the set
`default`, and the objects of the two others that differ from it. `python -m tests.chart.matrix`
(`make golden`) writes golden/ again.
"""

import re
from pathlib import Path

import yaml

from tests.chart import helm

DEFAULT = "default"
REVIEWED = (DEFAULT, "openshift", "production")
GOLDEN = Path(__file__).parent / "golden"
FILES = {
    **{path.stem.removesuffix("-values"): path for path in (helm.CHART / "ci").glob("*.yaml")},
    **{path.stem.removeprefix("values-"): path for path in helm.CHART.glob("values-*.yaml")},
}
SETS = sorted(FILES)


def values(name: str) -> helm.Values:
    """The values of a set."""
    found: helm.Values = yaml.safe_load(_text(name))
    return found


def rendered(name: str, *, namespace: str = "mendix-mesh") -> helm.Rendered:
    """Return helm's output for a set, for the Kubernetes version in its comment, if any."""
    version = re.search(r"^# kubernetes: (\S+)$", _text(name), re.MULTILINE)
    kubernetes = version[1] if version else helm.KUBERNETES
    return helm.render(values(name), namespace=namespace, kubernetes=kubernetes)


def golden(name: str) -> Path:
    """Return the file with the reviewed result of a set."""
    return GOLDEN / f"{name}.yaml"


def reviewable(name: str) -> str:
    """Return the text that such a file should have."""
    documents = _documents(name)
    if name == DEFAULT:
        return "".join(documents.values())
    default = _documents(DEFAULT)
    changed = [text for source, text in documents.items() if default.get(source) != text]
    gone = [f"# not rendered: {source}\n" for source in default if source not in documents]
    return "".join([f"# As {DEFAULT}.yaml, but for:\n", *gone, *changed])


def _documents(name: str) -> dict[str, str]:
    """Return each rendered document by its template."""
    parts = re.split(r"^---\n(?=# Source: )", rendered(name).text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: f"---\n{part}" for part in parts if part}


def _text(name: str) -> str:
    return FILES[name].read_text()


def main() -> None:
    """Write the golden files again, and remove the others."""
    for path in GOLDEN.glob("*.yaml"):
        if path.stem not in REVIEWED:
            path.unlink()
    for name in REVIEWED:
        golden(name).write_text(reviewable(name))


if __name__ == "__main__":
    main()
