"""Exclusive claims on cells, over processes and machines that share a folder.

A claim is a file ``<name>.<generation>``, created exclusively, whose time of change is refreshed
while its owner lives. A claim that was not refreshed is taken over by creating the next
generation, which succeeds for one process alone. Nothing is locked, so that it works wherever
files can be created exclusively.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STALE_S = 120.0
HEARTBEAT_S = 10.0


@dataclass(frozen=True)
class Owner:
    """Who works on a cell.

    Args:
        host: Name of the machine.
        pid: Of the process.
        since: When the claim was made, in seconds since the epoch.
        alive: Whether there are signs of life.
    """

    host: str
    pid: int
    since: float
    alive: bool


class Claims:
    """The claims on the cells of a study.

    Args:
        folder: Where they lie; it must exist.
        stale_s: Seconds without a heartbeat after which an owner counts as dead. Of a process of
            this machine that has ended it is known at once.
        heartbeat_s: Seconds between heartbeats.
    """

    def __init__(
        self, folder: Path, stale_s: float = STALE_S, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self.folder, self.stale_s, self.heartbeat_s = folder, stale_s, heartbeat_s

    def take(self, name: str) -> Claim | None:
        """Claim a cell; None if somebody alive has it.

        Of two processes that both see that nobody has it, one gets it or, rarely, neither.
        """
        now = self._now()
        found = self._generations(name)
        if any(self._alive(path, now) for path in found):
            return None
        path = self._path(name, self._generation(found[-1]) + 1 if found else 0)
        try:
            with path.open("x") as file:
                json.dump(identity := _identity(), file)
        except FileExistsError:
            return None
        if any(self._alive(other, now) for other in self._generations(name) if other != path):
            path.unlink(missing_ok=True)  # somebody came in between, from another state of things
            return None
        return Claim(path, identity["token"], found, self.heartbeat_s)

    def owner(self, name: str) -> Owner | None:
        """Who claimed a cell last; None where nobody has."""
        found = self._generations(name)
        if not found:
            return None
        try:
            content, changed = _read(found[-1]), found[-1].stat().st_mtime
        except FileNotFoundError:  # given back this moment
            return None
        return Owner(
            host=str(content.get("host", "?")),
            pid=int(content.get("pid", 0)),
            since=float(content.get("since", changed)),
            alive=self._alive(found[-1], time.time()),
        )

    def _alive(self, path: Path, now: float) -> bool:
        try:
            content, changed = _read(path), path.stat().st_mtime
        except FileNotFoundError:
            return False
        return now - changed < self.stale_s and not _has_ended(content)

    def _generations(self, name: str) -> list[Path]:
        """Claims on a cell, oldest first."""
        return sorted(self.folder.glob(f"{name}.*"), key=self._generation)

    def _path(self, name: str, generation: int) -> Path:
        return self.folder / f"{name}.{generation}"

    @staticmethod
    def _generation(path: Path) -> int:
        return int(path.suffix[1:])

    def _now(self) -> float:
        """The file system's time, which may differ from this machine's."""
        probe = self.folder / f".now-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()


class Claim:
    """A cell that is this process's own, with a thread that shows that it lives.

    Args:
        path: The claim's file.
        token: What the file says that no other claim does.
        earlier: Claims of dead owners, which go with it.
        heartbeat_s: Seconds between heartbeats.
    """

    def __init__(self, path: Path, token: str, earlier: list[Path], heartbeat_s: float) -> None:
        self._path, self._token, self._earlier = path, token, earlier
        self._next = path.with_suffix(f".{int(path.suffix[1:]) + 1}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(heartbeat_s,), daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether somebody else took this process for dead, as after a long pause."""
        try:
            return self._next.exists() or _read(self._path).get("token") != self._token
        except FileNotFoundError:
            return True

    def release(self) -> None:
        """Give the cell back; a new owner's claim stays."""
        self._over.set()
        self._thread.join()
        if not self.is_lost:
            for path in (*self._earlier, self._path):
                path.unlink(missing_ok=True)

    def _beat(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                return
            except OSError:  # the file server is away: it may come back before the claim is stale
                continue


def _identity() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "machine": _machine(),
        "since": time.time(),
        "token": uuid.uuid4().hex,
    }


def _read(path: Path) -> dict[str, Any]:
    """Who made a claim; nothing while it is being written."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _has_ended(content: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is no longer there."""
    machine = _machine()
    if machine is None or content.get("machine") != machine:
        return False
    try:
        os.kill(int(content["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str | None:
    """What tells apart machines, their starts and containers on them; None if it is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def every_claim(folder: Path) -> Iterator[str]:
    """Names of the cells that are claimed."""
    yield from sorted({path.stem for path in folder.glob("[!.]*.*")})
