"""The smallest webhook: it replaces the server in tests of the test cluster itself.

It accepts the server's own flags. It answers 200 to each GET, and each review with the current
value of "response" in its settings file. On SIGTERM it completes the current responses, and ends.
"""

import argparse
import json
import signal
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    for flag in ("--listen", "--tls-cert-file", "--tls-private-key-file", "--settings"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = json.loads(Path(options.settings).read_text())["response"]
            uid = review["request"]["uid"]
            self._answer({**review, "request": None, "response": {"uid": uid, **response}})

        def _answer(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert_file, options.tls_private_key_file)
    host, _, port = options.listen.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        # The server waits for connections at the end. HTTP/1.0 leaves none open between requests.
        server.daemon_threads = False
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main()
