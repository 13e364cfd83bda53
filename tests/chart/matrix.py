"""The sets of values that the chart is rendered with, and what comes of them.

The sets are in the chart's ci/, where chart-testing looks too; what each renders to is in golden/,
for people to review: of the set `default` everything, of each other the objects in which it differs
from that one. `python -m tests.chart.matrix` (`make golden`) writes golden/ anew.
"""

import re
from pathlib import Path

import yaml

from tests.chart import helm

DEFAULT = "default"
GOLDEN = Path(__file__).parent / "golden"
SETS = sorted(
    path.name.removesuffix("-values.yaml") for path in (helm.CHART / "ci").glob("*-values.yaml")
)


def values(name: str) -> helm.Values:
    """The values of a set."""
    found: helm.Values = yaml.safe_load(_text(name))
    return found


def rendered(name: str, *, namespace: str = "mendix-mesh") -> helm.Rendered:
    """What helm makes of a set, for the Kubernetes version that its comment names, if any."""
    version = re.search(r"^# kubernetes: (\S+)$", _text(name), re.MULTILINE)
    kubernetes = version[1] if version else helm.KUBERNETES
    return helm.render(values(name), namespace=namespace, kubernetes=kubernetes)


def golden(name: str) -> Path:
    """The file that holds what a set rendered to when somebody last looked."""
    return GOLDEN / f"{name}.yaml"


def reviewable(name: str) -> str:
    """What such a file should hold."""
    documents = _documents(name)
    if name == DEFAULT:
        return "".join(documents.values())
    default = _documents(DEFAULT)
    changed = [text for source, text in documents.items() if default.get(source) != text]
    gone = [f"# not rendered: {source}\n" for source in default if source not in documents]
    return "".join([f"# As {DEFAULT}.yaml, but for:\n", *gone, *changed])


def _documents(name: str) -> dict[str, str]:
    """Each rendered document by the template that it comes from."""
    parts = re.split(r"^---\n(?=# Source: )", rendered(name).text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: f"---\n{part}" for part in parts if part}


def _text(name: str) -> str:
    return (helm.CHART / "ci" / f"{name}-values.yaml").read_text()


def main() -> None:
    """Write the golden files anew, and remove those of sets that are gone."""
    for path in GOLDEN.glob("*.yaml"):
        if path.stem not in SETS:
            path.unlink()
    for name in SETS:
        golden(name).write_text(reviewable(name))


if __name__ == "__main__":
    main()
