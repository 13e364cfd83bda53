"""Whether a server answers one large review after the other on one connection, as it must."""

import ssl
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from tests.bench.servers import Row

_PATIENCE = 5.0  # seconds that an answer may take


def answered(row: Row, body: bytes, times: int) -> int:
    """How many of so many reviews were answered before the connection was lost or stood still."""
    url = urlsplit(row.url)
    context = ssl._create_unverified_context()
    connection = HTTPSConnection(url.netloc, timeout=_PATIENCE, context=context)
    headers = {"content-type": "application/json"}
    count = 0
    try:
        for _ in range(times):
            connection.request("POST", f"{url.path}?{url.query}", body, headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                break
            count += 1
    except (OSError, HTTPException):
        pass
    finally:
        connection.close()
    return count
