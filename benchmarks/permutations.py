"""What do shuffled labels add to scoring, in time and in memory?

    python benchmarks/permutations.py                          # 0, 100 and 1 000 permutations
    python benchmarks/permutations.py --permutations 19 500 --dev 8000

Method. A BERT of four layers of 1 024 neurons, drawn from its configuration, reads a dev split of 2 000 samples of 4 to
13 words under one random prompt of 16 positions, on one thread.

Time. In one process, in turns and five times each: the plain dev pass of scoring, which counts for the true labels;
the pass that notes and counts for R permutations; and what follows it, Eq. 5 from the counts and the best of all
neurons. Medians, and the share of the plain pass that is added. `0` counts nothing but all samples of the subtask.

Memory. Each R has a process of its own, with allocators that give back at once what is freed. It scores, shuffles once
with 19 permutations, so that imports and buffers are there, and notes its anonymous memory; then shuffles R times, read
every 10 ms (as benchmarks/scoring_memory.py does). `predicted` is what is said before the work begins; the growth that
is measured also holds what the model needs for a batch, which with R = 0 stands alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scoring_memory import Peak, anonymous, write_task
from scoring_memory import backbone as small

LAYERS, WIDTH, POSITIONS, TURNS = 4, 1024, 16, 5


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--permutations", type=int, nargs="+", default=[0, 100, 1000])
    parser.add_argument("--dev", type=int, default=2000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        folder, permutations = Path(given.measure[0]), int(given.measure[1])
        print(json.dumps(times(folder, given.permutations) if permutations < 0 else grown(folder, permutations)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), 10 * given.dev)  # of which a tenth is dev
        plain, *taken = measured(folder, -1, given.permutations)
        print(f"plain dev pass: {plain:.2f} s")
        print("permutations      pass   Eq. 5   added      predicted    measured")
        for permutations, (passed, reduced) in zip(given.permutations, taken, strict=True):
            predicted, growth = measured(folder, permutations, given.permutations)
            added = (passed + reduced) / plain - 1
            print(
                f"{permutations:12d}  {passed:6.2f} s {reduced:5.2f} s {100 * added:+6.0f} %  "
                f"{predicted / 1e6:10.1f} MB {growth / 1e6:8.1f} MB"
            )
    return 0


def measured(folder: str, permutations: int, asked: list[int]) -> list[Any]:
    """What a process of its own prints."""
    own = {
        "SKILLNEURONS_CACHE": folder, "HF_HOME": folder, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "ARROW_DEFAULT_MEMORY_POOL": "system",
    }  # fmt: skip
    command = [sys.executable, __file__, "--measure", folder, str(permutations), "--permutations", *map(str, asked)]
    done = subprocess.run(command, env=os.environ | own, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def prepared(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Model, task, prompt and its scores; of train, 500 samples are enough."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    import skillneurons as sn
    from skillneurons.progress import quiet

    quiet()
    torch.set_num_threads(1)
    tokenizer = small().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=WIDTH, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = sn.load_model(BertForMaskedLM(config), tokenizer=tokenizer)
    task = sn.load_task(folder / "task.toml").limited(train=500)
    [prompt] = sn.tune(model, task, prompt="random", trials=1, positions=POSITIONS)
    [scores] = sn.score(model, task, [prompt])
    return model, task, prompt, scores


def times(folder: Path, permutations: list[int]) -> list[Any]:
    """Median seconds of the plain pass; then, for each number of permutations, of the pass and of what follows."""
    from skillneurons.finding.nulls.permuted import count, permuted
    from skillneurons.finding.sides import subtask_sides
    from skillneurons.finding.statistics import Counts
    from skillneurons.finding.sweep import sweep
    from skillneurons.tuning.inputs import Inputs

    model, task, prompt, scores = prepared(folder)
    inputs = Inputs.beside(model, task, prompt)
    labels, sides = inputs.labels("dev"), subtask_sides(task)
    together = max(64, *(len(chosen) for chosen in inputs.by_length("dev")))

    def plain() -> None:
        counts = Counts([scores.baseline(layer) for layer in range(LAYERS)], labels, sides)
        sweep(inputs, "dev", prompt.embedding, [counts], "dev")

    plainly: list[float] = []
    passed: dict[int, list[float]] = {own: [] for own in permutations}
    reduced: dict[int, list[float]] = {own: [] for own in permutations}
    for _ in range(TURNS):
        plainly.append(timed(plain)[0])
        for own in permutations:
            rows = permuted(labels, sides, own, seed=0)
            seconds, counts = timed(
                lambda rows=rows: count(inputs, prompt, scores, range(LAYERS), rows, together, "dev")
            )
            passed[own].append(seconds)
            reduced[own].append(timed(lambda counts=counts: counts.predictivity(scores.totals, False))[0])
    return [
        statistics.median(plainly),
        *((statistics.median(passed[own]), statistics.median(reduced[own])) for own in permutations),
    ]


def grown(folder: Path, permutations: int) -> list[int]:
    """The bytes that are said beforehand, and those by which the highest memory exceeds that before."""
    from skillneurons.finding.nulls.permutation import shuffled, shuffled_bytes
    from skillneurons.tuning.inputs import Inputs

    model, task, prompt, scores = prepared(folder)
    together = max(64, *(len(chosen) for chosen in Inputs.beside(model, task, prompt).by_length("dev")))
    shuffled(model, task, [prompt], [scores], permutations=19)
    with Peak() as peak:
        before = anonymous()
        shuffled(model, task, [prompt], [scores], permutations=permutations)
    return [shuffled_bytes(model.widths, POSITIONS, permutations, 1, len(task.dev), together), peak.highest - before]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that some work takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    raise SystemExit(main())
