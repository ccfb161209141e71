"""An S3 server on loopback (moto's), and in front of it a proxy that injects faults.

The proxy passes every request on, unless a fault is drawn for it, and counts what it did. `direct`
speaks to moto past the proxy, by boto3: the judge of what really lies in a bucket.
"""

from __future__ import annotations

import http.client
import logging
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What may be done to a request: answered with an error (before it reaches the server), its answer
# cut or never sent (after it took effect), its upload cut half-way, trickled, or one byte flipped.
TRANSIENT = ("500", "slow_down", "reset", "cut_answer", "lost_answer", "cut_upload", "trickle")
LASTING = ("denied",)
FLIPS = ("flip_answer", "flip_upload")

_ANSWERS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "denied": (403, "AccessDenied", "Access Denied"),
}
_HOP = {"connection", "transfer-encoding", "keep-alive"}  # headers of one connection
_TRICKLE = (8, 0.004)  # pieces and seconds between them: slow, yet no test waits for it


@dataclass
class Faults:
    """Which requests go wrong, and how.

    Attributes:
        share: of the requests that match.
        methods, part: only requests of these methods, with this text in their path; empty: all.
        most: faults in all; None: no limit.
    """

    share: float
    kinds: tuple[str, ...] = TRANSIENT
    seed: int = 0
    methods: tuple[str, ...] = ()
    part: str = ""
    most: int | None = None
    done: int = 0
    _random: random.Random = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self, method: str, path: str, uploads: bool) -> str | None:
        """The fault of one request; None: it passes."""
        if self.part not in path or (self.methods and method not in self.methods):
            return None
        with self._lock:
            if self.most is not None and self.done >= self.most:
                return None
            if self._random.random() >= self.share:
                return None
            kind = self._random.choice(self.kinds)
            if kind in ("cut_upload", "flip_upload") and not uploads:
                return None
            self.done += 1
            return kind


@dataclass
class S3Server:
    """A running server.

    Attributes:
        url: the proxy's, which programs under test are given.
        moto: (host, port) of the server behind it.
        counts: requests by method, and faults by kind.
    """

    url: str
    moto: tuple[str, int]
    faults: Faults = field(default_factory=lambda: Faults(0))
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def env(self) -> dict[str, str]:
        """Environment by which any S3 client reaches the proxy."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # no look for credentials at a cloud's own address
        }

    def direct(self) -> Any:
        """A boto3 client of the server itself."""
        import boto3
        from botocore.config import Config

        host, port = self.moto
        return boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            # What was corrupted on its way here is looked at as well.
            config=Config(response_checksum_validation="when_required"),
        )

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Key below ``prefix`` -> content, of everything there."""
        client = self.direct()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key[len(prefix) :]: client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start both, on free ports of the loopback interface."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    proxy = _Proxy(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        server = S3Server(f"http://127.0.0.1:{proxy.server_port}", moto.get_host_and_port())
        proxy.told = server
        yield server
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    told: S3Server

    def shutdown_request(self, request: Any) -> None:
        """Close at once, so that a connection set to be reset is reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""

    def _handle(self) -> None:
        told, length = self.server.told, int(self.headers.get("Content-Length") or 0)
        told.counts[self.command] += 1
        kind = told.faults.draw(self.command, self.path, length > 0)
        if kind is not None:
            told.counts[kind] += 1
        if kind == "cut_upload":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if kind == "reset":
            self._reset()
        elif kind in _ANSWERS:
            status, code, message = _ANSWERS[kind]
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            about = [("Content-Type", "application/xml"), ("Content-Length", str(len(error)))]
            self._answer(status, about, b"" if self.command == "HEAD" else error)
        else:
            status, headers, answer = self._pass_on(_flip(body) if kind == "flip_upload" else body)
            if kind == "lost_answer":
                self._reset()
                return
            if kind == "flip_answer" and status in (200, 206):
                answer = _flip(answer)
            self._answer(status, headers, answer, kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.told.moto)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection.request(self.command, self.path, body or None, headers)
            got = connection.getresponse()
            return got.status, got.getheaders(), got.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, kind: str | None = None
    ) -> None:
        self.send_response_only(status)
        named = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if "content-length" not in named:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "cut_answer":
            self.wfile.write(body[: len(body) // 2])
            self._reset()
        elif kind == "trickle":
            pieces, pause = _TRICKLE
            step = max(len(body) // pieces, 1)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(pause)
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


def _flip(data: bytes) -> bytes:
    """One bit of the middle byte changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
