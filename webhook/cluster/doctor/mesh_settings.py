"""Compares the settings with the configuration of an installed mesh.

Pure functions on decoded ConfigMaps; `mesh_reading` reads them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import yaml

from webhook.cluster.judge.outdated import at
from webhook.policy.pod import images, ports
from webhook.policy.settings import Settings, SettingsError, parse
from webhook.policy.words import printable

#: Lists of ports, written as one string.
_PORTS = frozenset(
    {
        "linkerd.skipInboundPorts",
        "linkerd.skipOutboundPorts",
        "istio.excludeInboundPorts",
        "istio.excludeOutboundPorts",
    }
)
#: Lists that may name more than the mesh has: a second mirror, a further host.
_OPEN_LISTS = frozenset(
    {
        "linkerd.proxyImages",
        "linkerd.initImages",
        "istio.proxyImages",
        "istio.controlPlaneHosts",
        "istio.templates",
    }
)
#: Istio's settings that also count for namespaces in ambient mode.
AMBIENT = frozenset(
    {
        "clusterDomain",
        "istio.controlPlaneNamespace",
        "istio.controlPlaneHosts",
        "istio.proxyImages",
    }
)
#: The port of istio-agent's health checks, which policy knows (files/injection-template.yaml).
_STATUS_PORT = 15020
#: Since 1.24 a pod's annotation asks for a native sidecar (istio pkg/kube/inject/webhook.go).
_NATIVE_SINCE = (1, 24)
_DOMAIN = "cluster.local"
_MISSING: Any = msgspec.UNSET


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as the installed mesh has it."""

    #: The path below `settings`, as `linkerd.proxyUid`.
    setting: str
    value: Any
    #: The object and the key that say so.
    source: str
    #: Other values that are also correct.
    others: tuple[Any, ...] = ()


class Installed(msgspec.Struct, kw_only=True):
    """A mesh that is installed, by its own configuration."""

    mesh: Literal["linkerd", "istio"]
    version: str
    #: The objects that were read.
    read: list[str]
    facts: list[Fact]
    #: What the configuration says and the settings can't express, a line each.
    notes: list[str] = []


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that is not as the installed mesh has it."""

    setting: str
    ours: Any
    installed: Any
    #: The value to set; it may keep parts of the current value.
    wanted: Any
    source: str
    #: error: pods with the injector's proxy are denied. warning: no such pod is denied.
    severity: Literal["error", "warning"]

    @property
    def text(self) -> str:
        """Return the difference in words."""
        return (
            f"settings.{self.setting} is {_flow(self.ours)}, the mesh uses {_flow(self.installed)} "
            f"({self.source})"
        )


class Revision(NamedTuple):
    """The configuration of one revision of Istio."""

    #: Empty for the one without a name.
    name: str
    namespace: str
    #: ConfigMap istio-sidecar-injector: Helm values, and the injector's configuration.
    values: Mapping[str, Any]
    config: Mapping[str, Any]
    #: ConfigMap istio: MeshConfig.
    mesh: Mapping[str, Any]

    @property
    def suffix(self) -> str:
        """Return the suffix of the names of its ConfigMaps."""
        return f"-{self.name}" if self.name else ""

    @property
    def injector(self) -> str:
        """Return the title of the injector's ConfigMap."""
        return f"ConfigMap {self.namespace}/istio-sidecar-injector{self.suffix}"

    @property
    def mesh_config(self) -> str:
        """Return the title of the ConfigMap with MeshConfig."""
        return f"ConfigMap {self.namespace}/istio{self.suffix}"


def linkerd(values: Mapping[str, Any], title: str, namespace: str) -> Installed:
    """Return what Linkerd's merged Helm values say (linkerd2 templates/config.yaml).

    `title` names their ConfigMap. A key that they lack says nothing.
    """
    proxy = _image(at(values, "proxy", "image", "name"))
    init = _image(at(values, "proxyInit", "image", "name"))
    gid = _number(at(values, "proxy", "gid"))
    skipped = at(values, "proxyInit", "ignoreInboundPorts")
    own = [at(values, "proxy", "ports", name) for name in ("control", "admin")]
    subnets = at(values, "proxyInit", "skipSubnets")
    found = [
        ("clusterDomain", "clusterDomain", _text(at(values, "clusterDomain"))),
        ("controlPlaneNamespace", "", namespace),
        ("proxyImages", "proxy.image.name", [proxy] if proxy else _MISSING),
        ("initImages", "proxyInit.image.name", [init] if init and init != proxy else _MISSING),
        ("proxyUid", "proxy.uid", _number(at(values, "proxy", "uid"))),
        # In Linkerd -1 means that no group is set.
        ("proxyGid", "proxy.gid", None if gid is not _MISSING and gid < 0 else gid),
        ("inboundPort", "proxy.ports.inbound", _number(at(values, "proxy", "ports", "inbound"))),
        ("outboundPort", "proxy.ports.outbound", _number(at(values, "proxy", "ports", "outbound"))),
        ("skipInboundPorts", "proxy.ports and proxyInit.ignoreInboundPorts",
         _MISSING if None in (*own, skipped) else _joined([*own, skipped])),
        ("skipOutboundPorts", "proxyInit.ignoreOutboundPorts",
         _portlist(at(values, "proxyInit", "ignoreOutboundPorts"))),
        ("skipSubnets", "proxyInit.skipSubnets", _MISSING if subnets is None else _parts(subnets)),
    ]  # fmt: skip
    facts = list(_facts("linkerd", title, found))
    usable, notes = _usable(facts)
    version = at(values, "linkerdVersion") or at(values, "proxy", "image", "version") or ""
    return Installed(mesh="linkerd", version=str(version), read=[title], facts=usable, notes=notes)


def istio(revisions: Sequence[Revision], names: Iterable[str], webhooks: str) -> Installed:
    """Return what Istio's configuration says; the revision that pods get comes first.

    `names` are the revisions and tags that pods can ask for; `webhooks` says where they were read.
    Lists of several revisions are taken together.
    """
    facts: dict[str, Fact] = {}
    notes: list[str] = []
    for revision in revisions:
        for fact in _of_revision(revision):
            known = facts.setdefault(fact.setting, fact)
            facts[fact.setting] = _together(known, fact)
            if _is_single(fact) and known.value != fact.value:
                notes.append(_disagreement(known, fact))
    available = sorted(set(names))
    if available:
        requested = _requested(revisions, available)
        if requested is _MISSING:
            notes.append(
                f"Istio has no default revision: set settings.istio.revision to one of: "
                f"{', '.join(available)}"
            )
        else:
            facts["istio.revision"] = Fact(
                setting="istio.revision", value=requested, source=webhooks, others=tuple(available)
            )
    usable, unusable = _usable(facts.values())
    first = revisions[0]
    return Installed(
        mesh="istio",
        version=str(at(first.values, "global", "tag") or ""),
        read=[name for one in revisions for name in (one.injector, one.mesh_config)
              if (one.mesh if name == one.mesh_config else one.values)],
        facts=usable,
        notes=notes + unusable,
    )  # fmt: skip


def differences(facts: Iterable[Fact], settings: Settings) -> list[Difference]:
    """Return each setting that differs from the installed mesh, in the facts' order."""
    ours, defaults = msgspec.to_builtins(settings), msgspec.to_builtins(Settings())
    found = []
    for fact in facts:
        keys = fact.setting.split(".")
        own = at(ours, *keys)
        severity = _differs(fact, own)
        if severity is None:
            continue
        wanted = fact.value
        if fact.setting in _OPEN_LISTS and own != at(defaults, *keys):
            wanted = [*own, *(one for one in fact.value if one not in own)]
        found.append(
            Difference(
                setting=fact.setting, ours=own, installed=fact.value, wanted=wanted,
                source=fact.source, severity=severity,
            )
        )  # fmt: skip
    return found


def document(found: Iterable[Difference]) -> dict[str, Any]:
    """Return what to set, nested as in the settings file."""
    made: dict[str, Any] = {}
    for one in found:
        *above, key = one.setting.split(".")
        place = made
        for name in above:
            place = place.setdefault(name, {})
        place[key] = one.wanted
    return made


def line(found: Iterable[Difference]) -> str:
    """Return one line of YAML that sets all of them, to paste into the chart's values."""
    return _flow({"settings": document(found)})[1:-1]


def beside_defaults(installed: Sequence[Installed]) -> tuple[list[Difference], list[str]]:
    """Return what to set, once for each setting, and a line for each on which meshes disagree."""
    found: dict[str, Difference] = {}
    notes = []
    said: dict[str, Fact] = {}
    for fact in (fact for one in installed for fact in one.facts):
        known = said.setdefault(fact.setting, fact)
        if known.value != fact.value:
            notes.append(_disagreement(known, fact))
            continue
        for one in differences([fact], Settings()):
            found.setdefault(one.setting, one)
    # Settings for all meshes come first, so that the settings of each mesh form one block.
    return sorted(found.values(), key=lambda one: "." in one.setting), notes


def yaml_text(installed: Sequence[Installed]) -> str:
    """Return values for the chart: what differs from the defaults, and where it was read.

    `review --settings` reads them as well.
    """
    lines = [
        _said(f"# {one.mesh} {one.version}, read from {', '.join(one.read)}") for one in installed
    ]
    found, _ = beside_defaults(installed)
    lines += ["settings:"] if found else ["# The defaults match the mesh.", "settings: {}"]
    section = ""
    for one in found:
        above, _, key = one.setting.rpartition(".")
        if above != section:
            lines.append(f"  {above}:")
            section = above
        indent = "    " if above else "  "
        lines += [f"{indent}# {_said(one.source)}", f"{indent}{_flow({key: one.wanted})[1:-1]}"]
    return "\n".join([*lines, ""])


def _of_revision(revision: Revision) -> Iterator[Fact]:
    """Yield what one revision says (istio-discovery chart: its values, templates and files)."""
    values = revision.values
    domain = _text(at(values, "global", "proxy", "clusterDomain"))
    namespace = str(at(values, "global", "istioNamespace") or revision.namespace)
    status = _number(at(values, "global", "proxy", "statusPort"))
    moved = [] if status in (_MISSING, 0, _STATUS_PORT) else [status]
    inbound = at(values, "global", "proxy", "excludeInboundPorts")
    ranges = at(values, "global", "proxy", "excludeIPRanges")
    title = f"{revision.injector} values"
    if values:
        yield from _facts("istio", title, [
            ("clusterDomain", "global.proxy.clusterDomain", domain),
            ("controlPlaneNamespace", "global.istioNamespace", namespace),
            ("nativeSidecars", "global.tag",
             False if _is_before(at(values, "global", "tag"), _NATIVE_SINCE) else _MISSING),
            ("proxyImages", "global.hub and global.proxy.image", _istio_images(values) or _MISSING),
            ("proxyUid", "global.platform", _istio_uid(values)),
            ("excludeInboundPorts",
             "global.proxy.excludeInboundPorts" + (" and statusPort" if moved else ""),
             _MISSING if inbound is None else _joined([*moved, inbound])),
            ("excludeOutboundPorts", "global.proxy.excludeOutboundPorts",
             _portlist(at(values, "global", "proxy", "excludeOutboundPorts"))),
            ("excludeOutboundIPRanges", "global.proxy.excludeIPRanges",
             _MISSING if ranges is None else _parts(ranges)),
        ])  # fmt: skip
    templates = at(revision.config, "defaultTemplates")
    extra = (
        [str(one) for one in templates if one != "sidecar"] if isinstance(templates, list) else ()
    )
    yield from _facts(
        "istio",
        f"{revision.injector} config",
        [("templates", "defaultTemplates", extra or _MISSING)],
    )
    for where, key, address in (
        (title, "global.caAddress", at(values, "global", "caAddress")),
        (f"{revision.mesh_config} mesh", "defaultConfig.discoveryAddress",
         at(revision.mesh, "defaultConfig", "discoveryAddress")),
    ):  # fmt: skip
        host = _host(str(address or ""))
        if host and not _is_in(host, namespace, domain):
            yield from _facts("istio", where, [("controlPlaneHosts", key, [host])])


def _facts(mesh: str, title: str, found: Iterable[tuple[str, str, Any]]) -> Iterator[Fact]:
    for setting, key, value in found:
        if value is not _MISSING:
            path = setting if setting == "clusterDomain" else f"{mesh}.{setting}"
            yield Fact(setting=path, value=value, source=f"{title}: {key}" if key else title)


def _usable(facts: Iterable[Fact]) -> tuple[list[Fact], list[str]]:
    """Return the facts that settings can state, and a line for each other one."""
    usable, notes = [], []
    for fact in facts:
        wanted = Difference(setting=fact.setting, ours=None, installed=None, wanted=fact.value,
                            source="", severity="error")  # fmt: skip
        values = fact.value if isinstance(fact.value, list) else [fact.value]
        try:
            if not all(str(one).isprintable() for one in values):
                raise SettingsError("it contains characters that can't be printed")
            parse(document([wanted]), checks=frozenset())
        except SettingsError as error:
            notes.append(
                f"{fact.source} is {_flow(fact.value)}, which the settings can't express: {error}"
            )
        else:
            usable.append(fact)
    return usable, notes


def _differs(fact: Fact, own: Any) -> Literal["error", "warning"] | None:
    mesh = fact.value
    if fact.setting in _PORTS:
        ours, theirs = ports.parse(own)[0], ports.parse(mesh)[0]
        if ports.beyond(mesh, ours):
            return "error"
        return "warning" if ports.beyond(own, theirs) else None
    if isinstance(mesh, list):
        if not set(mesh) <= set(own):
            # Pods do not ask for a default template, so no pod is judged by it.
            return "warning" if fact.setting == "istio.templates" else "error"
        is_more = fact.setting not in _OPEN_LISTS and set(own) - set(mesh)
        return "warning" if is_more else None
    if own == mesh or own in fact.others:
        return None
    # Without a user id in the settings, the proxy's user id is not checked.
    return "warning" if fact.setting == "istio.proxyUid" and own is None else "error"


def _disagreement(known: Fact, other: Fact) -> str:
    return (
        f"{other.source} is {_flow(other.value)}, and {known.source} is {_flow(known.value)}: "
        f"settings.{known.setting} can have only one of these values"
    )


def _is_single(fact: Fact) -> bool:
    return fact.setting not in _PORTS and not isinstance(fact.value, list)


def _together(known: Fact, more: Fact) -> Fact:
    """Return the fact of two revisions, or of two keys: lists grow, a single value stays."""
    if _is_single(more) or known.value == more.value:
        return known
    if more.setting in _PORTS:
        parts = [part for part in more.value.split(",") if part not in known.value.split(",")]
        value: Any = ",".join(filter(None, [known.value, *parts]))
    else:
        value = [*known.value, *(one for one in more.value if one not in known.value)]
    return Fact(setting=known.setting, value=value, source=f"{known.source}, {more.source}")


def _requested(revisions: Sequence[Revision], available: Sequence[str]) -> Any:
    """Return the revision that pods must ask for: None with a default one, a tag before others."""
    if "default" in available:
        return None
    tags = [name for name in available if name not in {one.name for one in revisions}]
    for names in (tags, available):
        if len(names) == 1:
            return names[0]
    return _MISSING


def _istio_images(values: Mapping[str, Any]) -> list[str]:
    """Return the proxy's repositories (pkg/kube/inject: ProxyImage; files/injection-template)."""
    hub = str(at(values, "global", "hub") or "")
    proxy = str(at(values, "global", "proxy", "image") or "proxyv2")
    init = str(at(values, "global", "proxy_init", "image") or "")
    whole = [proxy if "/" in proxy else f"{hub}/{proxy}" if hub else ""]
    # A name without a slash is ignored: the init container then uses the proxy's image.
    whole.append(init if "/" in init else "")
    return list(dict.fromkeys(images.repository(one) for one in whole if one))


def _istio_uid(values: Mapping[str, Any]) -> Any:
    """Return None on OpenShift, where the injector takes the user from the namespace's range."""
    platforms = (at(values, "global", "platform"), at(values, "pilot", "env", "PLATFORM"))
    return None if "openshift" in platforms else 1337


def _is_before(tag: Any, version: tuple[int, int]) -> bool:
    """Return whether a tag names an older version; False for a tag that is not a version."""
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(\D|$)", str(tag or ""))
    return bool(found) and (int(found[1]), int(found[2])) < version if found else False


def _host(address: str) -> str:
    """Return the host of an address as policy compares it: without port and default domain."""
    host, colon, port = address.rpartition(":")
    return (host if colon and port.isdecimal() else address).removesuffix(f".{_DOMAIN}")


def _is_in(host: str, namespace: str, domain: Any) -> bool:
    """Return whether a host is a Service of this namespace."""
    _, _, rest = host.partition(".")
    return rest in (f"{namespace}.svc", f"{namespace}.svc.{domain}")


def _image(name: Any) -> str:
    return images.repository(name) if isinstance(name, str) else ""


def _number(value: Any) -> Any:
    """Return an integer, also one in quotes; missing for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return _MISSING
    text = str(value)
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else _MISSING


def _text(value: Any) -> Any:
    return value if isinstance(value, str) and value else _MISSING


def _portlist(value: Any) -> Any:
    return _MISSING if value is None else _joined([value])


def _joined(parts: Iterable[Any]) -> str:
    """Return lists of ports as one list without spaces; YAML may give a single port as a number."""
    texts = ("".join(str(part).split()).strip(",") for part in parts if part is not None)
    return ",".join(filter(None, texts))


def _parts(text: Any) -> list[str]:
    return [part.strip() for part in str(text).split(",") if part.strip()]


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=1 << 30, sort_keys=False, allow_unicode=True
    )
    return _said(text.removesuffix("\n").removesuffix("\n..."))


def _said(text: str) -> str:
    return printable(text)
