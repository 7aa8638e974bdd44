"""The history in the file of an offline W&B run: records of protobuf in LevelDB's log format."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

IDENT_SIZE, BLOCK_SIZE = 7, 32768
HEADER = struct.Struct("<IHB")  # checksum, length, type
FULL, LAST = 1, 4
WAIT_S = 60.0


def read_history(path: Path) -> list[dict[str, Any]]:
    """What each call of ``run.log`` wrote; a medium is a dictionary."""
    history = []
    for record in _whole_run(path):
        if record.WhichOneof("record_type") == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                name, *within = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                row[name] = {**row.get(name, {}), within[0]: value} if within else value
            history.append(row)
    return history


def _whole_run(path: Path) -> list[Record]:
    """All records, the last of which W&B's process may still have to write."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        records = [Record.FromString(content) for content in _contents(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.1)
    raise TimeoutError(f"{path} has no end after {WAIT_S:g} s")


def _contents(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    position, parts = IDENT_SIZE, []
    while position + HEADER.size <= len(data):
        left = BLOCK_SIZE - position % BLOCK_SIZE
        if left < HEADER.size:
            position += left  # a header does not cross blocks
            continue
        _, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size
        if position + length > len(data):
            return  # W&B's process is still writing this record
        parts.append(data[position : position + length])
        position += length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
