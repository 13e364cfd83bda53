"""What `make demo WIRE=1` plays, on the cluster of the other tests."""

import pytest

from tests.wire.cluster import WireCluster
from tests.wire.demo import play


@pytest.mark.timeout(300)
def test_the_demo_shows_the_packets_in_words(
    wire: WireCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    play(wire)
    said = capsys.readouterr().out
    assert "TLS 1.3, SNI outbound_.8080_._.shop." in said
    assert "none of the 4,096 bytes of the request are readable" in said
    assert "the shop's proxy refuses it: ConnectionResetError" in said
