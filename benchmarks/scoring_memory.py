"""Does scoring take more memory when there are more samples?

    python benchmarks/scoring_memory.py                     # 1 000, 10 000 and 100 000 training samples
    python benchmarks/scoring_memory.py --samples 1000 1000000

Method. A BERT of two layers of 256 neurons, drawn from its configuration, scores a task of N training and N / 10 dev
samples of 4 to 13 words under one random prompt of 8 positions, on one thread. Each N has a process of its own. It
scores 500 samples, so that imports and buffers are there, and notes its anonymous memory (what no file stands behind:
`Anonymous` in /proc/self/smaps_rollup, so Linux only). Then the N samples are scored, first with texts to tokenise
(cold), then with the tokens that are kept (warm), and the highest value is noted, read every 10 ms. Growth is the
highest value less the one before. The allocators are told to give back at once what is freed (MALLOC_*_THRESHOLD_,
ARROW_DEFAULT_MEMORY_POOL), so that what is measured is what is in use, and not what they keep for later.

Meaning. One sample's activations at the prompt are 16 kB here: keeping them would take 1.6 GB for 100 000 samples. The
order in which samples run takes 4 bytes for each, the labels 8. Memory is called constant where the growth of the most
samples exceeds that of the fewest by less than 8 MB, 80 bytes a sample with the numbers above.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ALLOWED = 8e6  # bytes of growth between the fewest samples and the most
POSITIONS = 8
WORDS = [f"word{number}" for number in range(500)]
TASK = """
name = "memory"
[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "dev.jsonl"
[words]
no = "word1"
yes = "word2"
"""


def main() -> int:
    """Measure each number of samples in its own process; 1 where memory grows with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return 0
    print("  samples   cold: before    growth  seconds   warm: before    growth  seconds")
    growths = []
    for samples in sorted(given.samples):
        with tempfile.TemporaryDirectory() as folder:
            write_task(Path(folder), samples)
            own = {
                "SKILLNEURONS_CACHE": folder, "HF_HOME": folder, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            }  # fmt: skip
            done = subprocess.run(
                [sys.executable, __file__, "--measure", folder],
                env=os.environ | own, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        passes = json.loads(done.stdout)
        growths.append(max(growth for _, growth, _ in passes))
        told = "   ".join(
            f"{before / 1e6:9.1f} MB {growth / 1e6:6.1f} MB {took:6.1f} s" for before, growth, took in passes
        )
        print(f"{samples:9d}   {told}")
    more, ratio = growths[-1] - growths[0], max(given.samples) / min(given.samples)
    constant = more < ALLOWED
    print(f"{ratio:.0f} times the samples: {more / 1e6:+.1f} MB, {'constant' if constant else 'GROWING'} memory")
    return 0 if constant else 1


def write_task(folder: Path, samples: int) -> None:
    """A task file with its samples, of which a word tells the label."""
    draw = random.Random(0)
    for split, count in (("train", samples), ("dev", samples // 10)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for index in range(count):
                text = " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))
                file.write(
                    json.dumps({"text": f"{text} word{1 + index % 2}", "label": ["no", "yes"][index % 2]}) + "\n"
                )
    (folder / "task.toml").write_text(TASK)


def measure(folder: Path) -> list[tuple[float, float, float]]:
    """Bytes before, growth in bytes, and seconds, of a pass that tokenises and of one that need not."""
    import torch

    import skillneurons as sn
    from skillneurons.progress import quiet

    quiet()
    torch.set_num_threads(1)
    model, task = backbone(), sn.load_task(folder / "task.toml")
    [prompt] = sn.tune(model, task, prompt="random", trials=1, positions=POSITIONS, train_limit=500, dev_limit=125)
    sn.score(model, task, [prompt], train_limit=500, dev_limit=125)
    found = []
    for _ in range(2):
        with Peak() as peak:
            began, before = time.perf_counter(), anonymous()
            sn.score(model, task, [prompt])
        found.append((before, peak.highest - before, time.perf_counter() - began))
    return found


def backbone() -> Any:
    """A tiny BERT and a tokenizer of `WORDS`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    import skillneurons as sn

    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    vocabulary = {word: index for index, word in enumerate([*roles.values(), *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    return sn.load_model(BertForMaskedLM(config), tokenizer=PreTrainedTokenizerFast(tokenizer_object=inner, **roles))


def anonymous() -> int:
    """This process's anonymous memory in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/smaps_rollup says nothing of anonymous memory: this benchmark needs Linux 4.14 or later")


class Peak:
    """The highest anonymous memory while the block runs, read every 10 ms by a thread of its own."""

    def __enter__(self) -> Peak:
        self.highest = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.highest = max(self.highest, anonymous())

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.highest = max(self.highest, anonymous())


if __name__ == "__main__":
    raise SystemExit(main())
