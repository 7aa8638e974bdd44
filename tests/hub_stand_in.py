"""A small local Hugging Face hub: as much of its API as fetching and pushing a model ask for."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubStandIn(ThreadingHTTPServer):
    """Keeps commits of models: ``commits[repo]`` is a list of (id, files by name), oldest first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.asked: list[str] = []

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        before = self.commits.setdefault(repo, [])
        name = hashlib.sha1(f"{repo} {len(before)}".encode()).hexdigest()
        before.append((name, (before[-1][1] if before else {}) | files))
        return name


@contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStandIn

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.split("?")[0])
        commits = self.server.commits.get(found[1], []) if found else []
        chosen = [one for one in commits if found and found[2] in (one[0], "main")]
        if not chosen:
            code = "RevisionNotFound" if commits else "RepoNotFound"
            return self._answer(404, {"error": code}, {"X-Error-Code": code})
        name, files = chosen[-1]
        if not found or found[3] not in files:
            return self._answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": name})
        content = files[found[3]]
        etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": name})

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization')}/{asked['name']}"
            if self.headers.get("Authorization") is None:
                return self._answer(401, {"error": "Invalid username or password."})
            self.server.commits.setdefault(repo, [])
            return self._answer(200, {"url": f"{self.server.url}/{repo}", "id": repo, "name": repo})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path):
            if found[2] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self._answer(200, {"files": files})
            lines = [json.loads(line) for line in body.splitlines()]
            new = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            name = self.server.commit(found[1], new)
            url = f"{self.server.url}/{found[1]}/commit/{name}"
            return self._answer(200, {"success": True, "commitOid": name, "commitUrl": url})
        return self._answer(404, {"error": self.path})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
