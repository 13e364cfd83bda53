"""Decoding the few fields that policy reads."""

import pytest

from webhook.policy.pod import objects
from webhook.policy.pod.objects import Meta


def test_unknown_fields_are_skipped_and_null_is_missing() -> None:
    data = b'{"kind":"Pod","x":{"y":[1]},"metadata":{"labels":null,"uid":"1"},"spec":null}'
    assert objects.decode(data) == objects.Object(kind="Pod", metadata=Meta())


def test_a_wrong_type_is_reported_with_its_place() -> None:
    with pytest.raises(objects.UndecodableError) as raised:
        objects.decode(b'{"spec":{"containers":{"name":"a"}}}')
    assert str(raised.value) == "Expected `array | null`, got `object` - at `$.spec.containers`"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"kind":1}', b'{"metadata":{"labels":{"a":1}}}']
)
def test_what_is_no_object_is_undecodable(data: bytes) -> None:
    with pytest.raises(objects.UndecodableError):
        objects.decode(data)


@pytest.mark.parametrize(
    ("document", "template"),
    [
        ({"spec": {"template": {"spec": 1}}}, {"spec": 1}),
        ({"spec": {"jobTemplate": {"spec": {"template": {"x": 1}}}}}, {"x": 1}),
        ({"spec": {"jobTemplate": {"spec": None}, "template": None}}, None),
        ({"spec": {"containers": []}}, None),
        ({"spec": []}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_template_of_a_controller_is_found_whole(document: object, template: object) -> None:
    assert objects.template_of(document) == template
