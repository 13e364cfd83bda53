"""The variables of a container."""

import msgspec
import pytest

from webhook.policy.pod.objects import Container, UndecodableError
from webhook.policy.pod.variables import Variables, variables


def read(listed: object) -> Variables:
    return variables(Container("app", env=msgspec.Raw(msgspec.json.encode(listed))))


def test_of_two_variables_with_one_name_the_last_holds() -> None:
    listed = [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A", "value": "2"}]
    found = read(listed)
    assert found.values == {"A": "2", "B": ""}
    assert [one.name for one in found.listed] == ["A", "B", "A"]


@pytest.mark.parametrize("listed", [None, []])
def test_there_may_be_no_such_object(listed: object) -> None:
    assert read(listed).values == {}
    assert variables(Container("app")).values == {}


def test_names_are_found_by_their_beginnings() -> None:
    found = read([{"name": name} for name in ("LD_PRELOAD", "PATH", "PATHS", "OLD_PATH", "ld_x")])
    assert found.starting(("LD_", "PATH")) == ("LD_PRELOAD", "PATH", "PATHS")
    assert found.starting(("X",)) == ()


@pytest.mark.parametrize("wrong", ["none", 1, [1], [{"name": 1}], [{"name": None}], {"A": "1"}])
def test_what_is_no_list_of_variables_is_denied_with_its_container(wrong: object) -> None:
    with pytest.raises(UndecodableError, match=r"\(env of container app\)"):
        read(wrong)
