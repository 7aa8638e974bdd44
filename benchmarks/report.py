"""All benchmarks: docs/performance.json, and the table in docs/PERFORMANCE.md.

    python benchmarks/report.py [NAME ...]

Each runs in a process of its own. With names of benchmarks only those are measured, and the others'
rows stay as they are. `field` needs the extra of that name and is measured only when it is named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import Row, table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
BENCHMARKS = (
    "training",
    "freezing",
    "deep_taylor",
    "relevance_logging",
    "preparation",
    "first_batch",
    "classification",
    "startup",
    "export",
    "growth",
    "field",
)
OPTIONAL = {"field"}  # needs other packages, and takes longer than all the others
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME")
    names = parser.parse_args().names or [n for n in BENCHMARKS if n not in OPTIONAL]
    path = DOCS / "performance.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for number, name in enumerate(names, start=1):
        print(f"{number} of {len(names)}: {name}", flush=True)
        start = time.perf_counter()
        results[name] = measured(name)
        results[name]["machine"]["seconds"] = round(time.perf_counter() - start)
    path.write_text(
        json.dumps({n: results[n] for n in BENCHMARKS if n in results}, indent=2) + "\n"
    )
    show(results)


def measured(name: str) -> dict[str, Any]:
    """Rows and machine of one benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        log = Path(folder) / "log"
        with log.open("w") as file:
            done = subprocess.run(
                [sys.executable, str(HERE / f"{name}.py"), "--json", str(out)],
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            sys.exit(f"{name} failed:\n{log.read_text()[-4000:]}")
        return json.loads(out.read_text())


def show(results: dict[str, Any]) -> None:
    """Put the table into the page."""
    page = DOCS / "PERFORMANCE.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n\n".join(section(results[name]) for name in BENCHMARKS if name in results)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    print(text)


def section(result: dict[str, Any]) -> str:
    rows = [Row(**{k: v for k, v in row.items() if k != "met"}) for row in result["rows"]]
    machine = result["machine"]
    load = f"{machine['load_average'][0]:.1f}"
    return (
        f"{table(rows)}\n\n{machine['time']}, {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['torch']}, measured in {machine['clock']}, load before {load}."
    )


if __name__ == "__main__":
    main()
