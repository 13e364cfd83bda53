"""Write docs/inputs.md from the allow-lists: `python -m docs.generate_inputs`, by `make docs`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from webhook.policy import meshes
from webhook.policy.inputs import Input, Inputs, istio, linkerd
from webhook.policy.inputs.forms import ADMIN_ONLY
from webhook.policy.settings import Settings

PAGE = Path(__file__).parent / "inputs.md"

_HEAD = """\
# What a pod's author may set

<!-- Written by `make docs` (docs/generate_inputs.py) from webhook/policy/inputs. -->

The annotations and labels of a pod that a mesh reads, and the values that its author may give \
them. mendix-mesh denies everything else in the meshes' domains: a key that is not on this page, \
and a value that does not look as the page says. So a pod stays in the mesh also when the mesh \
learns a new key.

| may | who sets it |
|---|---|
| harmless | The author. Each value of this form is admitted. |
| bypass | The author, if the settings allow the value: it leads traffic past the proxy. The value \
must be one that [the settings](configuration.md) name, for the whole mesh or in `settings.allow`. |
| admin | The mesh's admin, for the whole mesh. An author may only repeat the mesh's own value. |
| injector | The mesh's own programs. An author may not set it. |

An annotation that a pod inherits from its namespace is the namespace owner's, and is not judged \
as the author's. To let authors set a further key, name it with a reason in \
`settings.linkerd.annotations` or [`settings.istio.annotations`](configuration.md#settingsistio):

```yaml
settings:
  istio:
    annotations:
      - key: sidecar.istio.io/enableCoreDump
        values: ["true"]
        reason: we look for a crash of the proxy until April
```

No value holds a line break, a control character, a quote or `$(`, unless it is a printable text, \
JSON or YAML. A value that is too long is denied unread. The check in the last column \
[reports the input](checks.md).
"""

_CONFIGURATION = """\
### Keys of `proxy.istio.io/config`

The value is one YAML or JSON mapping, without aliases, tags and keys that stand twice. Its texts \
hold no quotes, backticks and `$(`.

| key | value |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    loaded = meshes.load(Settings())
    sections = [
        _section("Linkerd", loaded["linkerd"].annotations, loaded["linkerd"].labels),
        _additional(),
        _section(
            "Istio, with sidecars and in ambient mode", loaded["istio"].annotations,
            loaded["istio"].labels,
        ),
        _configuration(),
        _metadata(),
    ]  # fmt: skip
    return "\n".join([_HEAD, *sections])


def _section(title: str, annotations: Inputs | None, labels: Inputs | None) -> str:
    assert annotations is not None  # noqa: S101 - both meshes have lists
    assert labels is not None  # noqa: S101
    listed = {**annotations.listed, **{f"{key}…": one for key, one in annotations.prefixes.items()}}
    return "\n".join([
        f"## {title}", "",
        *_table("annotation", listed), "",
        *_table("label", labels.listed), "",
    ])  # fmt: skip


def _table(what: str, listed: Mapping[str, Input]) -> Iterator[str]:
    yield f"| {what} | value | may | check |"
    yield "|---|---|---|---|"
    for key, (form, may, check) in sorted(listed.items()):
        words = "none" if form is ADMIN_ONLY else form.words.replace("|", "\\|")
        yield f"| `{key}` | {words} | {may} | [{check}](checks.md#{check}) |"


def _additional() -> str:
    names = ", ".join(f"`{name}`" for name in sorted(linkerd.HARMLESS_ENV))
    return (
        "### Variables of `config.linkerd.io/proxy-additional-env`\n\n"
        f"The value is a JSON list of objects with a name and a value. Names: {names}.\n"
    )


def _configuration() -> str:
    rows = [
        (key, "any" if inner is None else "an object of " + ", ".join(f"`{one}`" for one in inner))
        for key, inner in istio.HARMLESS_KEYS.items()
    ]
    rows += [
        ("discoveryAddress", "an address of the mesh's istiod"),
        ("interceptionMode", "`REDIRECT` or `TPROXY`"),
        ("proxyMetadata", "variables of the table below"),
    ]
    return _CONFIGURATION + "".join(f"| `{key}` | {value} |\n" for key, value in sorted(rows))


def _metadata() -> str:
    rows = (f"| `{name}` | {form.words} |\n" for name, form in sorted(istio.HARMLESS_ENV.items()))
    return (
        "### Variables of `proxyMetadata`\n\n"
        "A container `istio-proxy` with the image `auto` may have the same.\n\n"
        "| variable | value |\n|---|---|\n" + "".join(rows)
    )


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
