"""An S3 server that can be away (it answers 503), or slow beyond measure (it does not answer), and else is moto's."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class Lake:
    """The bucket `lake` behind a door that can be shut."""

    def __enter__(self) -> Self:
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.inside = f"http://{host}:{port}"
        boto3.client(
            "s3", endpoint_url=self.inside, region_name="us-east-1", aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_bucket(Bucket="lake")  # fmt: skip
        self.shut = threading.Event()
        self.moves = threading.Event()
        """Cleared: whoever asks waits until it is set again."""
        self.moves.set()
        self.waited_for = threading.Event()
        """Set when someone waits."""
        self.refused = threading.Event()
        """Set when someone found the door shut."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.moves.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._moto.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_S3": self.url, **CREDENTIALS}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        lake, inside = self, urlsplit(self.inside)

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if not lake.moves.is_set():
                    lake.waited_for.set()
                    lake.moves.wait()
                if lake.shut.is_set():
                    lake.refused.set()
                    self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                connection = http.client.HTTPConnection(inside.hostname, inside.port)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                self._answer(answer.status, dict(answer.getheaders()), data)

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in {"connection", "transfer-encoding", "content-length", "server", "date"}:
                        self.send_header(name, value)
                length = headers.get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
                self.send_header("content-length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
            setattr(Door, f"do_{method}", Door._any)
        return Door
