"""A small local W&B server: as much of its API as a sweep, its agents and their runs ask for."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENTITY, SWEEP = "somebody", "sweep001"


@dataclass
class ReceivedRun:
    """What a run sent: history and summary by its file stream, files by upload.

    Files of an artifact have its name before their own. Artifacts are what W&B is told of them
    when they are made, and whether they were completed.
    """

    sweep: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_code: int | None = None


class WandbStandIn(ThreadingHTTPServer):
    """Takes runs, and one sweep of which it hands out given configurations, one after the other.

    An operation that is not known is answered by an error, as by an older server.

    Args:
        configurations: Values by parameter, in place of those that W&B would choose. After the
            last the agent is told to exit.
        deadline_s: Seconds after which the agent is told to kill its run and exit.
    """

    def __init__(
        self, configurations: Sequence[Mapping[str, Any]] = (), deadline_s: float = 300.0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sweep_config = ""
        self.project: dict[str, Any] = {}
        self.runs: dict[str, ReceivedRun] = {}
        self._waiting = list(configurations)
        self._deadline = time.monotonic() + deadline_s
        self._operations: dict[str, Callable[[dict[str, Any]], Any]] = {
            "ProbeServerCapabilities": self._no_fields,
            "query ArtifactType(": self._no_artifact,
            "viewer {": self._viewer,
            "upsertSweep(": self._upsert_sweep,
            "sweep(sweepName": self._sweep,
            "createAgent(": self._create_agent,
            "agentHeartbeat(": self._heartbeat,
            "upsertBucket(": self._upsert_run,
            "createRunFiles(": self._create_files,
            "createArtifact(": self._create_artifact,
            "createArtifactManifest(": self._create_manifest,
            "createArtifactFiles(": self._create_artifact_files,
            "commitArtifact(": self._commit_artifact,
        }

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a query or mutation."""
        for part, operation in self._operations.items():
            if part in query:
                return {"data": operation(variables)}
        return {"errors": [{"message": "Cannot query this field"}]}

    def stream(self, run: ReceivedRun, sent: Mapping[str, Any]) -> None:
        """Keep what a run sent by its file stream."""
        lines = {name: part["content"] for name, part in sent.get("files", {}).items()}
        run.history += map(json.loads, lines.get("wandb-history.jsonl", []))
        for summary in lines.get("wandb-summary.json", []):
            run.summary |= json.loads(summary)
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def _no_fields(self, variables: dict[str, Any]) -> Any:
        types = "QueryType", "MutationType", "ServerInfoType"
        return {name: {"fields": [{"name": ""}]} for name in types}

    def _no_artifact(self, variables: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def _viewer(self, variables: dict[str, Any]) -> Any:
        teams: dict[str, Any] = {"edges": []}
        viewer = {"id": "viewer", "entity": ENTITY, "username": ENTITY, "flags": "{}"}
        return {"viewer": {**viewer, "teams": teams}}

    def _upsert_sweep(self, variables: dict[str, Any]) -> Any:
        self.sweep_config = variables["config"]
        self._take_project(variables["projectName"])
        sweep = {"name": SWEEP, "project": self.project}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _sweep(self, variables: dict[str, Any]) -> Any:
        if variables["sweep"] != SWEEP or variables["project"] != self.project["name"]:
            return {"project": None}
        sweep = {"id": SWEEP, "name": SWEEP, "config": self.sweep_config, "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def _create_agent(self, variables: dict[str, Any]) -> Any:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _heartbeat(self, variables: dict[str, Any]) -> Any:
        commands: list[dict[str, Any]] = []
        running = json.loads(variables["runState"])
        if time.monotonic() > self._deadline or not (running or self._waiting):
            commands = [{"type": "exit"}]
        elif not running:
            name = f"run{len(self.runs)}"
            self.runs[name] = ReceivedRun()
            values = {key: {"value": value} for key, value in self._waiting.pop(0).items()}
            commands = [{"type": "run", "run_id": name, "program": "xecg", "args": values}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _upsert_run(self, variables: dict[str, Any]) -> Any:
        name = variables["name"]
        self._take_project(variables["project"])
        run = self.runs.setdefault(name, ReceivedRun())
        labels = ("groupName", "displayName", "jobType")
        run.labels |= {key: variables[key] for key in labels if variables[key]}
        run.sweep = variables["sweep"] or run.sweep
        run.tags = variables.get("tags") or run.tags
        sent = json.loads(variables["config"] or "{}")
        run.config |= {key: entry["value"] for key, entry in sent.items()}
        bucket = {"id": name, "name": name, "displayName": name, "sweepName": run.sweep}
        return {"upsertBucket": {"bucket": {**bucket, "project": self.project}, "inserted": True}}

    def _create_files(self, variables: dict[str, Any]) -> Any:
        run = variables["run"]
        files = [{"name": name, **self._upload(run, name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _create_artifact(self, variables: dict[str, Any]) -> Any:
        asked = variables["input"]
        run, name = asked["runName"], asked["artifactCollectionName"]
        self.runs[run].artifacts[name] = {**asked, "complete": False}
        sequence = {"latestArtifact": None}
        artifact = {"id": f"{run}/{name}", "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _create_manifest(self, variables: dict[str, Any]) -> Any:
        file = self._upload(variables["artifactID"], variables["name"])
        manifest = {"id": "manifest", "file": {"id": "manifest", **file}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _create_artifact_files(self, variables: dict[str, Any]) -> Any:
        asked = variables["input"]["artifactFiles"]
        nodes = [
            {
                "storagePath": None,
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
                **self._upload(file["artifactID"], file["name"]),
            }
            for file in asked
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, variables: dict[str, Any]) -> Any:
        run, name = variables["artifactID"].split("/")
        self.runs[run].artifacts[name]["complete"] = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}

    def _take_project(self, name: str) -> None:
        self.project = {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}

    def _upload(self, owner: str, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.url}/upload/{owner}/{name}", "uploadHeaders": []}


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbStandIn

    def handle(self) -> None:
        with suppress(ConnectionResetError):  # a client that has ended
            super().handle()

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            sent = json.loads(body)
            self._reply(self.server.graphql(sent["query"], sent.get("variables") or {}))
        elif self.path.endswith("/file_stream"):  # /files/<entity>/<project>/<run>/file_stream
            self.server.stream(self.server.runs[self.path.split("/")[-2]], json.loads(body))
            self._reply({})
        else:  # telemetry
            self._reply({})

    def do_PUT(self) -> None:
        _, run, name = self.path.lstrip("/").split("/", 2)
        self.server.runs[run].files[name] = self._body()
        self._reply({})

    def log_message(self, *args: Any) -> None:
        """Nothing: what matters is what was received."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(stand_in: WandbStandIn) -> Iterator[WandbStandIn]:
    """Answer requests in a thread for as long as the block runs."""
    thread = threading.Thread(target=stand_in.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.shutdown()
        stand_in.server_close()
        thread.join()


def run_with(server: WandbStandIn, *command: str | Path, **variables: str) -> str:
    """Run a command in this folder, where W&B's client finds this server and no account.

    Args:
        server: The server.
        command: A command that was installed with xecg, and its arguments.
        variables: Of the environment, beside those that say where the server is.

    Returns:
        What was printed.
    """
    folder = Path(sys.executable).parent
    environment = {key: v for key, v in os.environ.items() if not key.startswith("WANDB_")} | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": server.url,
        "WANDB_ERROR_REPORTING": "false",
        "OMP_NUM_THREADS": "1",  # on a busy machine threads wait for each other
        **{f"WANDB_{name}_DIR": str(Path.cwd()) for name in ("CACHE", "CONFIG", "DATA")},
        **variables,
    }
    done = subprocess.run(
        [folder / command[0], *command[1:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
