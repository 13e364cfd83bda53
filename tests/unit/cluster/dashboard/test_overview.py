"""The answer on the first page, and its rows."""

from tests.unit.cluster.dashboard.reports import namespace, report, row
from webhook.cluster.dashboard import overview


def rows(*namespaces: object, mendix: object = frozenset({"mendix"})) -> list[overview.Line]:
    return overview.lines(report(*namespaces), mendix)  # type: ignore[arg-type]


def test_the_answer_is_about_mendixs_namespaces_if_they_are_known() -> None:
    found = rows(namespace("mendix", row(meshed=41, unmeshed=2)), namespace("x", row(unmeshed=9)))
    made = overview.answer(found)
    assert (made.of_mendix, made.meshed, made.counted, made.state) == (True, 41, 43, "unmeshed")
    made = overview.answer(rows(namespace("x", row(meshed=1, unmeshed=9)), mendix=None))
    assert (made.of_mendix, made.meshed, made.counted) == (False, 1, 10)


def test_all_in_the_mesh_is_printed_only_if_nothing_was_skipped() -> None:
    whole = namespace("mendix", row(meshed=3))
    assert overview.answer(rows(whole)).state == "meshed"
    for found in (
        rows(whole, mendix={"mendix", "stray"}),
        rows(whole, namespace("crm", error="forbidden"), mendix={"mendix", "crm"}),
        rows(namespace("mendix", row(meshed=3, unknown=1))),
        rows(namespace("mendix")),
    ):
        assert overview.answer(found).state == "unknown"
    assert overview.answer(rows(namespace("mendix", row(meshed=3, partly=1)))).state == "partly"


def test_exempt_pods_do_not_count() -> None:
    made = overview.answer(rows(namespace("mendix", row(meshed=3, exempt=2))))
    assert (made.meshed, made.counted, made.state) == (3, 3, "meshed")


def test_mendix_namespaces_that_were_not_scanned_have_a_row() -> None:
    found = rows(namespace("mendix", row()), mendix={"mendix", "stray"})
    assert [(one.name, one.state) for one in found] == [("stray", "unlooked"), ("mendix", "meshed")]
    assert overview.answer(found).unlooked == ["stray"]


def test_namespaces_that_are_not_selected_are_shown_as_such_and_not_counted() -> None:
    audited = report(namespace("mendix", row(meshed=3)))
    found = overview.lines(audited, {"mendix", "crm", "gone"}, ("mendix", "gone"))
    assert [(one.name, one.state) for one in found] == [
        ("gone", "unlooked"), ("mendix", "meshed"), ("crm", "unselected"),
    ]  # fmt: skip
    found = overview.lines(audited, {"mendix", "crm"}, ("mendix",))
    made = overview.answer(found)
    assert (made.state, made.unlooked, made.counted) == ("meshed", [], 3)


def test_the_worst_come_first() -> None:
    found = rows(
        namespace("good", row()),
        namespace("half", row(meshed=1, unmeshed=1)),
        namespace("none", row(unmeshed=5)),
        namespace("shut", error="forbidden"),
        namespace("nearly", row(meshed=9, unmeshed=1)),
        namespace("unsure", row(unknown=1)),
        mendix=None,
    )
    assert [one.name for one in found] == ["shut", "none", "half", "nearly", "unsure", "good"]
