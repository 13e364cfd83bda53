"""The page on performance is what the raw results say."""

import xml.etree.ElementTree as ET

import pytest

from tests.bench import plot, report, results, tables

FOUND = results.read()
TEXT = report.PAGE.read_text()


def test_the_page_is_current_with_the_raw_results() -> None:
    assert report.page(TEXT, FOUND) == TEXT, "run: python -m tests.bench.report"


def test_the_plot_is_current_with_the_raw_results() -> None:
    assert plot.svg(FOUND) == report.PLOT.read_text(), "run: python -m tests.bench.report"


@pytest.mark.parametrize("name", tables.everything(FOUND))
def test_the_page_has_every_table(name: str) -> None:
    assert f"<!-- table: {name} -->" in TEXT


def test_a_page_whose_tables_are_old_gets_new_ones_and_keeps_its_text() -> None:
    old = "before\n<!-- table: targets -->\nold\n<!-- end -->\nafter\n"
    new = report.page(old, FOUND)
    assert new.startswith("before\n<!-- table: targets -->\n| target |")
    assert new.endswith("|\n<!-- end -->\nafter\n")


def test_the_plot_is_well_formed() -> None:
    assert ET.fromstring(plot.svg(FOUND)).tag.endswith("svg")


def test_the_raw_results_do_not_name_the_machine() -> None:
    assert set(FOUND.machine) == {"CPU", "cores", "kernel"}
