"""The certificate changes, is wrong, and runs out under load: no review is lost."""

import datetime as dt
import ssl
import time
from collections.abc import Callable

import pytest
from cryptography import x509

from tests.cluster.certificates import Authority, Pair
from tests.faults.files import Files, Mounted, Plain
from tests.faults.replica import HOSTS, Replica, Show, Start, assert_all_answered, wait_for
from tests.unit.serving.clients import ServerClient

EXPIRY = "mendix_mesh_certificate_expiry_timestamp_seconds"
RELOADS = "mendix_mesh_certificate_reloads_total"


def new(authority: Authority) -> Pair:
    return authority.issue("mendix-mesh", hosts=HOSTS)


def mismatched(authority: Authority) -> Pair:
    """Return a certificate and the key of another one."""
    return Pair(new(authority).cert, new(authority).key)


def cut(authority: Authority) -> Pair:
    """Return a certificate of which the second half is missing."""
    pair = new(authority)
    return Pair(pair.cert[: len(pair.cert) // 2], pair.key)


def serial(pair: Pair) -> str:
    """Return a certificate's serial number as `Tally.serials` has it."""
    number = x509.load_pem_x509_certificate(pair.cert).serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex().upper()


def shown(replica: Replica) -> str:
    """Return the serial number of the certificate that a new connection is shown."""
    with replica.client.connect() as connection:
        return connection.serial()


@pytest.mark.parametrize("files", [Mounted, Plain])
def test_a_rotation_every_half_second(
    start: Start, authority: Authority, reviews: int, files: type[Files], show: Show
) -> None:
    """Good pairs, with a mismatched and a cut one in between."""
    replica = start(files=files)
    replica.allowed = "kept the last certificate"
    rotations = 0
    with replica.load(fresh=2) as load:
        while load.tally.sent < reviews:
            for make in (new, new, mismatched, new, cut):
                replica.files.replace(make(authority))
                rotations += 1
                time.sleep(0.5)
        last = new(authority)
        replica.files.replace(last)
        wait_for(lambda: load.tally.serials[serial(last)], "the last certificate to be shown")
    show(load.tally, f"{rotations} rotations, {len(load.tally.serials)} certificates shown")
    assert_all_answered(load.tally)
    assert replica.metric(RELOADS, result="loaded") >= 2
    assert replica.worker == replica.server.workers[0], "the worker was replaced"


@pytest.mark.parametrize(("files", "make"), [(Mounted, mismatched), (Plain, cut)])
def test_a_pair_that_cannot_be_served_is_kept_out(
    start: Start, authority: Authority, files: type[Files], make: Callable[[Authority], Pair]
) -> None:
    """It is counted and logged once, and the next good one is served."""
    replica = start(files=files)
    replica.allowed = "kept the last certificate"
    was = shown(replica)
    replica.files.replace(make(authority))
    wait_for(lambda: replica.metric(RELOADS, result="refused"), "the pair to be rejected")
    # Long enough for the server to check it several times.
    time.sleep(1.5)
    rejected = replica.metric(RELOADS, result="refused")
    assert len(replica.complaints()) == rejected, replica.complaints()
    if files is Mounted:
        # Of files written in place, the server may also read a half.
        assert rejected == 1
    assert shown(replica) == was
    assert replica.client.get("/readyz").status == 200
    good = new(authority)
    replica.files.replace(good)
    wait_for(lambda: shown(replica) == serial(good), "the good pair to be served")


def test_a_certificate_that_is_about_to_expire(
    replica: Replica, authority: Authority, reviews: int, show: Show
) -> None:
    """Readiness is lost before it expires, and returns with a new one; no review is lost.

    For a certificate of less than a day, readiness is lost in the last twentieth of its life: 5 s
    of this one's 100. The client keeps its one connection, because a new one would not be trusted
    at the end.
    """
    left = dt.timedelta(seconds=11)
    short = authority.issue("x", hosts=HOSTS, age=dt.timedelta(seconds=89), lifetime=left)
    end = x509.load_pem_x509_certificate(short.cert).not_valid_after_utc.timestamp()
    with replica.load(senders=1, fresh=0) as load:
        load.more(10)
        assert replica.client.get("/readyz").status == 200
        replica.files.replace(short)
        wait_for(lambda: replica.metric(EXPIRY) == end, "the metric to tell the new expiry")
        assert replica.client.get("/readyz").status == 200
        wait_for(lambda: replica.client.get("/readyz").status == 503, "readiness to be lost")
        early = end - time.time()
        assert early > 0, "readiness was lost too late"
        reason = replica.client.get("/readyz").body.decode().strip()
        assert replica.client.get("/livez").status == 200, "a restart would fix nothing"
        blind = ServerClient(replica.port, replica.client.ca)
        blind.context.check_hostname, blind.context.verify_mode = False, ssl.CERT_NONE
        time.sleep(max(0.0, end - time.time()) + 1.0)
        load.more(10)
        assert blind.get("/readyz").status == 503
        replica.files.replace(new(authority))
        wait_for(lambda: blind.get("/readyz").status == 200, "readiness to come back")
        assert replica.client.get("/readyz").status == 200
        load.until(reviews)
    show(load.tally, f"readiness was lost {early:.1f} s before the end: {reason}")
    assert_all_answered(load.tally)
