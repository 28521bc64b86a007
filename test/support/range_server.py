"""A real HTTP server of one folder, with byte ranges, that can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer(ThreadingHTTPServer):
    """``failures``: so many requests are answered with 503 from now on. ``down``: all of them. ``ranges``: whether byte
    ranges are known. ``served``: (path, bytes sent) of every request that was answered."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.failures, self.down, self.ranges = folder, 0, False, True
        self.served: list[tuple[str, int]] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refuses(self) -> bool:
        with self.lock:
            self.failures -= self.failures > 0
            return self.down or self.failures > 0


class _Handler(SimpleHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if self.server.refuses():
            self.reply(503, b"", {}, body)
        elif not path.is_file():
            self.reply(404, b"", {}, body)
        else:
            data, wanted = path.read_bytes(), self.headers.get("Range")
            if wanted and self.server.ranges:
                first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
                span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
                self.reply(206, data[first : last + 1], span, body)
            else:
                self.reply(200, data, {}, body)

    def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        if body:  # counted before a byte leaves: the client may look as soon as it has the last one
            with self.server.lock:
                self.server.served.append((self.path, len(data)))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    """Serve ``folder`` on a free port."""
    server = RangeServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
