"""The program in the pods: it serves, calls, or passes requests on, and prints JSON.

It runs in an image without other packages, so it uses the standard library only.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SIZE = 4096
"""Bytes of a request's body. It repeats the marker, so that each part of it would be found."""
_SECONDS = 4


def call(url: str, headers: dict[str, str], times: int = 1, held: str = "") -> dict[str, Any]:
    """Send requests on one connection. Before each but the first, see `hold`.

    Return their statuses, and the last body or the error that ended them.
    """
    host, _, path = url.partition("/")
    connection = http.client.HTTPConnection(host, timeout=_SECONDS)
    body = (headers.get("X-Marker", "-") * SIZE)[:SIZE].encode()
    found: dict[str, Any] = {"statuses": []}
    try:
        for number in range(times):
            if number:
                hold(held)
            connection.request("POST", f"/{path}", body, headers)
            answer = connection.getresponse()
            found["body"] = answer.read().decode(errors="replace")
            found["statuses"].append(answer.status)
    except (OSError, http.client.HTTPException) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def hold(path: str) -> None:
    """Create a file, and wait until it is deleted, at most a minute."""
    end = time.monotonic() + 60
    with open(path, "w"):
        pass
    while os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.05)


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers that it received, and the name of its pod."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.reply(200, {"pod": os.uname().nodename, "headers": dict(self.headers.items())})

    do_GET = do_POST  # noqa: N815

    def reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve(ports: list[int]) -> None:
    """Serve until the process is killed, on the ports that the proxy left free."""
    for port in ports:
        with contextlib.suppress(OSError):
            Thread(target=ThreadingHTTPServer(("", port), Echo).serve_forever).start()
    signal.pause()


def forward(url: str, host: str) -> None:
    """Pass requests on to a URL with this Host header, as an ingress controller does."""

    class Forward(Echo):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = call(url, {"X-Marker": self.headers.get("X-Marker", "-"), "Host": host})
            self.reply((found["statuses"] or [502])[0], found)

    ThreadingHTTPServer(("", 8080), Forward).serve_forever()


def retry(urls: list[str], headers: dict[str, str]) -> None:
    """Call each URL until it answers 200, as a task that needs it. Exit with 1 after a minute."""
    end = time.monotonic() + 60
    for url in urls:
        while call(url, headers)["statuses"] != [200]:
            if time.monotonic() > end:
                sys.exit(f"no answer from {url}")
            time.sleep(0.2)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("do", choices=("serve", "call", "task", "forward"))
    parser.add_argument("urls", nargs="*")
    parser.add_argument("--ports", type=int, nargs="*", default=[8080, 5432])
    parser.add_argument("--host", default="")
    parser.add_argument("--marker", default="-")
    parser.add_argument("--uid", type=int, default=0)
    parser.add_argument("--gid", type=int, default=0)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--held", default="")
    options = parser.parse_args()
    if options.gid:
        os.setgid(options.gid)
    if options.uid:
        os.setuid(options.uid)
    headers = {"X-Marker": options.marker} | ({"Host": options.host} if options.host else {})
    if options.do == "serve":
        serve(options.ports)
    elif options.do == "forward":
        forward(options.urls[0], options.host)
    elif options.do == "task":
        retry(options.urls, headers)
    else:
        found = [call(url, headers, options.times, options.held) for url in options.urls]
        print(json.dumps(found))


if __name__ == "__main__":
    main()
