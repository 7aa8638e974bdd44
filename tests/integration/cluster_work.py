"""Work that the workers of a test's cluster import."""

import os
import time
from pathlib import Path

from xecg.files import write_whole


def sign(items, path: Path) -> None:
    """Writes who worked; the process number comes last."""
    time.sleep(0.2)
    write_whole(path, f"{' '.join(items)} {os.getpid()}")
