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

This page lists the annotations and labels of a pod that a mesh reads, and the values that the \
pod's author is allowed to set. mendix-mesh denies all other keys in the meshes' domains, and all \
other values. So a key that a mesh adds later is denied until it is in this list.

The injectors paste most of these values, and the pod's names, images and ports, into a template. \
If one of them has a quote, a backslash or a line break where none is allowed, its author could \
rewrite the template. So mendix-mesh keeps the injector away from such a pod, with \
`sidecar.istio.io/inject: "false"` or `linkerd.io/inject: disabled`. In mode enforce the pod is \
denied. In the modes warn and audit it runs outside the mesh, with a warning. An exemption from \
the check trusts the author also in this.

| may | who sets it |
|---|---|
| harmless | The author. Each value of this form is admitted. |
| bypass | The author, if the settings allow the value, because it makes traffic bypass the proxy. \
The settings allow ports, subnets and templates, for the whole mesh or [for some pods]\
(install.md#traffic-past-the-mesh). Interfaces, `includeInboundPorts` and \
`includeOutboundIPRanges` need [an exemption](install.md#exempt-a-pod). \
[Ingress controllers](ingress.md) are allowed more. |
| admin | The mesh's admin, for the whole mesh. An author is only allowed to repeat the mesh's own \
value. |
| injector | The mesh's own programs. An author is not allowed to set it. |

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

If you remove such a key again, pods that were admitted with it stay meshed in `audit`: their \
record says that their inputs were allowed. They are judged by the new settings when they are \
recreated.

A value must not have a line break, a control character, a quote or `$(`, unless it is a printable \
text, JSON or YAML. A value that is too long is denied without being read. The last column names \
[the check](checks.md) that reports a wrong value.
"""

_CONFIGURATION = """\
### Keys of `proxy.istio.io/config`

The value is one YAML or JSON mapping, without aliases, tags and duplicate keys. Its texts \
have no quotes, backticks or `$(`.

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
    for key, (form, may, check, _) in sorted(listed.items()):
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
