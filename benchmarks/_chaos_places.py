"""Where disturbed builds write: a folder, a disk that is full, an object store that fails."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUCKET = "chaos"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes at a folder (root only)."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path, size: int) -> None:
    """Give a `small_disk` more room."""
    _mount("-o", f"remount,size={size}", str(folder))


def _mount(*args: str) -> None:
    done = subprocess.run(["mount", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mount: {done.stderr.strip()}; leave out --only full_disk, or be root")


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server; a share of them it answers with 500, or resets.

    Attributes:
        share: of the requests that fail, half of them before and half after they took effect.
        failed: how many have.
    """

    daemon_threads = True

    def __init__(self, behind: int, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.share, self.failed = behind, 0.0, 0
        self._moments, self._lock = random.Random(seed), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Endpoint for clients."""
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self) -> str | None:
        """What becomes of the next request: None, or how it fails."""
        with self._lock:
            if self._moments.random() >= self.share:
                return None
            self.failed += 1
            return self._moments.choice(("500", "reset", "500 after", "reset after"))

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault in ("500", "reset"):
            self._fail(fault)
            return
        behind = HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        behind.request(self.command, self.path, body, dict(self.headers))
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        if fault is not None:
            self._fail(fault.split()[0])
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _fail(self, how: str) -> None:
        self.close_connection = True
        if how == "500":
            self.send_response_only(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        # Closed with a time to linger of 0, a connection is reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass


@contextmanager
def failing_s3(seed: int) -> Iterator[FlakyProxy]:
    """Moto's S3 behind a proxy. By the environment this process asks it, not the proxy; a build is
    given the proxy's URL.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    proxy = FlakyProxy(port, seed)
    told = {
        "AWS_ACCESS_KEY_ID": "chaos",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    os.environ.update(told)
    import s3fs

    s3fs.S3FileSystem().mkdir(BUCKET)
    try:
        yield proxy
    finally:
        proxy.shutdown()
        server.stop()
        for name in told:
            del os.environ[name]
