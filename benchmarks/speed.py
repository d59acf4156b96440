"""How fast are tuning, scoring, finding and pruned models, against plain work and against what the machine can do?

    python benchmarks/speed.py                              # all rows, compared with the kept ratios
    python benchmarks/speed.py --only tuning startup --repeats 9
    python benchmarks/speed.py --keep                       # keep this run's ratios and write docs/speed.md from them
    python benchmarks/speed.py --out gpu.json               # on another machine; then, at home:
    python benchmarks/speed.py --run gpu.json --keep
    python benchmarks/speed.py --page                       # measure nothing, write the page from what is kept

Method. The works that are compared run in turn, A B C A B C ..., in one process on one machine; a ratio is the median
of the turns' ratios, and the quartiles say how far to trust it. Each row's own method stands beside its figures.
RoBERTa-base's shape with random weights, [MASK] and 127 prompt positions beside inputs of 28 tokens, which the targets
are about, and of 300. The real model and data are found through SKILLNEURONS_ASSETS. Run it on a machine with nothing
else to do, with as many threads as there are cores.

The command ends with 1 where a ratio falls behind its kept one by more than noise (benchmarks/yardsticks/kept.py says
when that is), with 0 otherwise: a target that is missed is shown, no more.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from yardsticks import curve, kept, page, paper, precision, pruning, scoring, startup, together, tuning, whole
from yardsticks.figure import Row, Run
from yardsticks.setting import Setting
from yardsticks.shape import SHAPES

from skillneurons.allocator import keep_freed_memory
from skillneurons.progress import quiet

HERE = Path(__file__).resolve().parent
KEPT = HERE / "kept.json"
TEMPLATE, PAGE = HERE / "speed_page.md", HERE.parent / "docs" / "speed.md"
ROWS: dict[str, Callable[[Setting], Row]] = {
    row.NAME: row.measure for row in (startup, tuning, together, scoring, whole, curve, precision, pruning)
}
NAMES = [*ROWS, paper.NAME]


def main() -> int:
    """Measure, or read a run; show, compare, keep."""
    given = options()
    runs = kept.read(KEPT)
    if given.page:
        write_page(runs)
        return 0
    if given.run:
        run = Run.of(json.loads(given.run.read_text(encoding="utf-8")))
    else:
        run = measured(Setting(torch.device(given.device), given.repeats, given.shape), given.only)
    kind = "cpu" if run.machine["device"] == "cpu" else "cuda"
    before = runs.get(kind)
    comparable = before is not None and kept.alike(run, before)
    console = Console() if Console().is_terminal else Console(width=170)
    console.print(page.table(run, before if comparable else None))
    if given.out:
        given.out.write_text(json.dumps(run.record(), indent=1) + "\n", encoding="utf-8")
    if given.keep:
        runs[kind] = kept.merged(before, run)
        kept.write(KEPT, runs)
        write_page(runs)
    if given.keep or before is None:
        return 0
    if not comparable:
        console.print(f"Not compared: the kept ratios are of another machine ({page.machine(before.machine)}).")
        return 0
    lines = kept.fallen(run, before)
    console.print(
        "\n".join(["Fallen behind what was kept:", *lines]) if lines else "Nothing fell behind what was kept."
    )
    return 1 if lines else 0


def options() -> argparse.Namespace:
    """The command's options."""
    keep_freed_memory()  # as the command line does; the plain workflow goes without it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="ROW", help=", ".join(NAMES))
    parser.add_argument("--shape", choices=list(SHAPES), default="roberta-base")
    parser.add_argument("--run", type=Path, help="read this run instead of measuring")
    parser.add_argument("--out", type=Path, help="write the run there")
    parser.add_argument("--keep", action="store_true", help="keep the run's ratios, write the page, compare nothing")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept, and measure nothing")
    return parser.parse_args()


def measured(setting: Setting, only: list[str]) -> Run:
    """The rows that are asked for, with a cache of tokens of their own."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SKILLNEURONS_CACHE"] = folder
        rows = [measure(setting) for name, measure in ROWS.items() if name in only]
        if paper.NAME in only:
            rows.append(paper.measure(setting, rows))
    return Run(setting.machine(), tuple(rows))


def write_page(runs: Mapping[str, Run]) -> None:
    """Write docs/speed.md."""
    PAGE.write_text(page.markdown(TEMPLATE.read_text(encoding="utf-8"), runs), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
