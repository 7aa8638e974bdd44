"""The history in the file of an offline W&B run: records of protobuf in LevelDB's log format."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

IDENT_SIZE, BLOCK_SIZE = 7, 32768
HEADER = struct.Struct("<IHB")  # checksum, length, type
FULL, LAST = 1, 4


def read_history(path: Path) -> list[dict[str, Any]]:
    """What each call of ``run.log`` wrote; a medium is a dictionary."""
    history = []
    for content in _contents(path.read_bytes()):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                name, *within = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                row[name] = {**row.get(name, {}), within[0]: value} if within else value
            history.append(row)
    return history


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
        parts.append(data[position : position + length])
        position += length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
