"""A hub on a local port: repositories of folders, spoken as the hub's own client expects it.

Model info, tree, and files with ranges, etags and commits. Faults: a gated repository, a connection
that breaks after so many bytes.
"""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
_LARGE = 1 << 16
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """What the server has, and what it was asked for."""

    def __init__(self):
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.breaks_after: int | None = None
        """Bytes of a large file after which each connection breaks."""
        self.stalls: threading.Event | None = None
        """A large file is sent by half, then this is waited for."""
        self.stalled = threading.Event()
        self.extra: list[str] = []
        """Names that the tree has besides."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and range of each request."""
        self.sent: dict[str, int] = {}
        """Bytes of bodies by file."""
        self.url = ""


@contextmanager
def hub_server():
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *_):
        """Tests print what they want to."""

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        for pattern, reply in ((_INFO, self.info), (_TREE, self.tree), (_FILE, self.file)):
            found = pattern.fullmatch(path)
            if found is None:
                continue
            repository, revision, *rest = found.groups()
            folder = self.hub.repositories.get(repository)
            if folder is None:
                return self.refuse(404, "RepoNotFound")
            if revision not in ("main", "v1", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            if repository in self.hub.gated and reply == self.file:
                return self.refuse(403, "GatedRepo")
            return reply(repository, folder, *rest)
        return self.refuse(404, "EntryNotFound")

    def info(self, repository, _folder):
        self.send_json({"id": repository, "sha": COMMIT, "cardData": {"license": "apache-2.0"}})

    def tree(self, _repository, folder):
        entries = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = file.read_bytes()
            entry = {
                "type": "file",
                "path": str(file.relative_to(folder)),
                "size": len(data),
                "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            }
            if len(data) > _LARGE:
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        entries += [
            {"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.hub.extra
        ]
        self.send_json(entries)

    def file(self, _repository, folder, name):
        file = folder / name
        if not file.is_file():
            return self.refuse(404, "EntryNotFound")
        data = file.read_bytes()
        large = len(data) > _LARGE
        digest = hashlib.sha256(data) if large else hashlib.sha1(data, usedforsecurity=False)
        start, total = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), int(asked[2] or total - 1) + 1
            data = data[:end]
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest.hexdigest()}"')
        self.send_header("X-Linked-Etag", f'"{digest.hexdigest()}"')
        self.send_header("X-Linked-Size", str(total))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{total}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return None
        body = data[start:]
        if large and self.hub.breaks_after is not None:
            body = body[: self.hub.breaks_after]
            self.close_connection = True
        if large and self.hub.stalls is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.stalls.wait()
            self.close_connection = True
            return None
        self.wfile.write(body)
        self.hub.sent[name] = self.hub.sent.get(name, 0) + len(body)
        return None

    def send_json(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
