"""Allowed changes of a namespace's labels. tests/cluster/ sends the same to a real API server."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.messages import LONGEST_WARNING
from webhook.policy.namespaces import NamespaceChange, Ruling, Standing, Values, nearest, rule
from webhook.policy.settings import LeaveEnforcement, Settings
from webhook.policy.validate import MODES

Labels = dict[str, str]
ENFORCE = Values("enforce")
RESTRICTED = Settings(
    leave_enforcement=LeaveEnforcement(
        groups=["platform"], users=["system:serviceaccount:argocd:controller"]
    )
)


def labels(mesh: str | None = None, mode: str | None = None) -> Labels:
    given = {MESH_LABEL: mesh, MODE_LABEL: mode}
    return {"team": "shop"} | {key: value for key, value in given.items() if value is not None}


def ruled(
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    values: Values = ENFORCE,
    settings: Settings | None = None,
    user: str = "alice",
    groups: tuple[str, ...] = ("system:authenticated",),
) -> Ruling:
    return rule(NamespaceChange(before, after, user, groups), values, settings or Settings())


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("mode", [None, *MODES])
def test_every_mesh_and_mode_may_be_set(mesh: str, mode: str | None) -> None:
    assert ruled(labels(), labels(mesh, mode)) == Ruling(warnings=[])


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("mesh", "linkred", "unknown mesh `linkred` - at "
         "`metadata.labels[mendix-mesh.io/mesh]`; did you mean `linkerd`? Allowed: ambient, "
         "istio, linkerd"),
        ("mesh", "Istio", "did you mean `istio`?"),
        ("mesh", "kuma", "; allowed: ambient, istio, linkerd"),
        ("mesh", "", "unknown mesh ``"),
        ("mode", "enforced", "did you mean `enforce`? Allowed: audit, enforce, warn"),
        ("mode", "off", "; allowed: audit, enforce, warn"),
    ],
)  # fmt: skip
def test_an_unknown_value_is_denied_with_the_allowed_ones(
    label: str, value: str, words: str
) -> None:
    after = labels("linkerd") | {f"mendix-mesh.io/{label}": value}
    assert words in ruled(labels(), after).denial


def test_all_that_is_wrong_is_reported_at_once() -> None:
    denial = ruled(labels(), labels("linkred", "wran")).denial
    assert "`linkerd`" in denial
    assert "`warn`" in denial


def test_what_was_wrong_before_does_not_keep_the_rest_from_being_fixed() -> None:
    found = ruled(labels("linkred", "wran"), labels("linkred", "warn"))
    assert not found.denial
    assert ruled(labels("linkred"), labels("linkerd")) == Ruling(warnings=[])


def test_a_mesh_label_that_stays_invalid_causes_a_warning() -> None:
    (warning,) = ruled(labels("linkred"), labels("linkred", "enforce")).warnings
    assert "no pod can start here" in warning


def test_a_mode_without_a_mesh_has_no_effect_and_causes_a_warning() -> None:
    (warning,) = ruled(labels(), labels(mode="warn")).warnings
    assert warning == (
        "mendix-mesh.io/mode has no effect without mendix-mesh.io/mesh; "
        "allowed: linkerd, istio, ambient"
    )


def test_a_label_of_ours_that_is_unknown_gets_a_warning_once() -> None:
    wrong = {"mendix-mesh.io/mehs": "linkerd", "team": "shop"}
    assert ruled({}, wrong).warnings == [
        "mendix-mesh does not read label mendix-mesh.io/mehs; did you mean mendix-mesh.io/mesh?"
    ]
    assert ruled(wrong, wrong).warnings == []
    (text,) = ruled({}, {f"mendix-mesh.io/{'x' * 63}": ""}).warnings
    assert text.endswith("allowed: mendix-mesh.io/mesh, mendix-mesh.io/mode")
    assert len(text) <= LONGEST_WARNING


def test_if_a_namespace_is_enrolled_by_name_a_mode_alone_has_an_effect() -> None:
    named = Values("enforce", Standing("linkerd", "warn"))
    assert ruled(labels(), labels(mode="enforce"), values=named) == Ruling(warnings=[])


LEAVING = [
    (labels("linkerd"), labels(), "not enrolled"),
    (labels("linkerd", "enforce"), labels(mode="enforce"), "not enrolled"),
    (labels("linkerd", "enforce"), labels("linkerd", "warn"), "warn"),
    (labels("linkerd"), labels("linkerd", "audit"), "audit"),
    (labels("linkerd"), labels("istio"), "istio"),
    (labels("linkerd", "wran"), labels("linkerd", "warn"), "warn"),
]


@pytest.mark.parametrize(("before", "after", "to"), LEAVING)
def test_leaving_enforcement_causes_a_warning_and_is_logged(
    before: Labels, after: Labels, to: str
) -> None:
    found = ruled(before, after)
    assert found.left
    assert found.left.was == Standing("linkerd", "enforce")
    assert found.warnings[0] == (
        "mendix-mesh: pods outside the linkerd mesh are no longer denied; "
        f"the namespace is now {to}"
    )


@pytest.mark.parametrize(("before", "after", "to"), LEAVING)
def test_leaving_can_be_kept_to_some(before: Labels, after: Labels, to: str) -> None:
    found = ruled(before, after, settings=RESTRICTED)
    assert found.left
    after_change = found.left.will_be or "not enrolled"
    assert (
        f"(mesh and mode now: linkerd, enforce; after the change: {after_change})" in found.denial
    )
    assert found.denial.endswith(
        "settings.leaveEnforcement allows this only for group platform, "
        "user system:serviceaccount:argocd:controller"
    )


@pytest.mark.parametrize(
    "who",
    [
        {"groups": ("platform", "system:authenticated")},
        {"user": "system:serviceaccount:argocd:controller"},
        {"groups": ("system:masters",)},
    ],
)
def test_those_who_are_named_and_the_masters_may_leave(who: dict[str, str]) -> None:
    found = ruled(labels("linkerd"), labels(), settings=RESTRICTED, **who)  # type: ignore[arg-type]
    assert not found.denial
    assert found.left


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (labels(), labels("linkerd")),
        (labels("linkerd", "warn"), labels("linkerd", "audit")),
        (labels("linkerd", "warn"), labels()),
        (labels("linkerd"), labels("linkerd", "enforce")),
        (labels("linkerd", "warn"), labels("linkerd", "enforce")),
        (labels("linkred"), labels("linkerd")),
        (labels("linkerd"), labels("linkerd") | {"team": "crm"}),
    ],
)
def test_what_does_not_leave_enforcement_is_anybodys(before: Labels, after: Labels) -> None:
    found = ruled(before, after, settings=RESTRICTED)
    assert (found.denial, found.left) == ("", None)


def test_the_charts_mode_decides_what_no_mode_means() -> None:
    relaxed = Values("warn")
    assert ruled(labels("linkerd"), labels(), values=relaxed).left is None
    left = ruled(labels("linkerd", "enforce"), labels("linkerd"), values=relaxed).left
    assert left
    assert left.will_be == Standing("linkerd", "warn")


def test_a_namespace_that_is_enrolled_by_name_falls_back_to_that() -> None:
    named = Values("audit", Standing("istio", "enforce"))
    assert ruled(labels("istio", "enforce"), labels(), values=named).left is None
    assert ruled(labels(), labels(mode="warn"), values=named, settings=RESTRICTED).denial
    # With a label for the mesh, only the labels and the chart's mode count.
    left = ruled(labels(), labels("istio"), values=named).left
    assert left
    assert left.will_be == Standing("istio", "audit")


def test_the_nearest_value_is_that_of_the_label() -> None:
    assert nearest(MESH_LABEL, "linkred") == "linkerd"
    assert nearest(MODE_LABEL, "Enforce") == "enforce"
    assert nearest(MODE_LABEL, "enforce") == ""
    assert nearest(MODE_LABEL, "linkerd") == ""


ANY = st.dictionaries(
    st.sampled_from([MESH_LABEL, MODE_LABEL, "team"]),
    st.text(max_size=70) | st.sampled_from([*MESHES, *MODES]),
)
PLACES = st.builds(
    Values,
    st.sampled_from(MODES),
    st.none() | st.builds(Standing, st.sampled_from(MESHES), st.sampled_from(MODES)),
)


@given(before=ANY, after=ANY, values=PLACES)
def test_whatever_the_labels_enforcement_is_left_only_by_those_who_may(
    before: Labels, after: Labels, values: Values
) -> None:
    found = ruled(before, after, values=values, settings=RESTRICTED)
    was, now = values.standing(before), values.standing(after)
    if was and was.mode == "enforce" and was.mesh != "unknown" and not found.denial:
        assert now == was
    assert all(len(text) <= LONGEST_WARNING and text.isprintable() for text in found.warnings)
    assert found.denial.isprintable()
