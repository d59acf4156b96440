"""Texts as token ids: tokenised once, kept in files, memory-mapped.

    tokens = tokenize(task.train, task.text, tokenizer, limit=384)
    tokens.row(0), tokens.lengths, tokens.labels, tokens.cut
    encode(tokenizer, [["a dull film"]], limit=384)         # of a text that is in no split

Ids of all samples stand one after the other (`ids`), with `offsets` saying where each begins; special tokens are the
tokenizer's own. Memory does not grow with the number of samples, neither here nor for who reads. The files lie in
`<cache>/tokens/<key>/`; the key depends on the texts, the tokenizer's whole definition and the limit, so nothing is
ever stale. A folder appears whole or not at all, and one that was damaged is made again. The cache is
`SKILLNEURONS_CACHE`, or `skillneurons` in the user's cache folder; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import SkillNeuronsError
from ..files import cache_folder, digest, read_json
from ..progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .split import Split

_VERSION = "1"  # of the files' form and of what is put in them
_BATCH = 1000  # samples tokenised at once
_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokenised samples of one split, in its order.

    `ids` [tokens] int32 holds all samples' token ids; sample i has `ids[offsets[i]:offsets[i + 1]]`. `types` [tokens]
    uint8 are the token types, None where the tokenizer has none. `labels` [samples] int64 are indices into the task's
    labels. `cut` says how many samples were shortened to `limit` tokens, special tokens counted.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    types: NDArray[np.uint8] | None
    labels: NDArray[np.int64]
    cut: int
    limit: int | None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Tokens({len(self)} samples, {len(self.ids)} tokens, {self.cut} cut)"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each sample has [samples], special tokens counted."""
        return np.diff(self.offsets)

    def row(self, index: int) -> NDArray[np.int32]:
        """The token ids of one sample."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def types_row(self, index: int) -> NDArray[np.uint8] | None:
        """The token types of one sample, None where the tokenizer has none."""
        return None if self.types is None else self.types[self.offsets[index] : self.offsets[index + 1]]


def tokenize(split: Split, text: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int | None = None) -> Tokens:
    """The split's text columns `text` (one, or two for a pair) as token ids, from the cache where they are there.

    `limit` is the most tokens of an input, special tokens counted; longer ones are shortened from the right, of a pair
    the longer text first. Pairs take the tokenizer's own pair form; where that puts nothing between the two, they
    become one text with a newline between. Raises `SkillNeuronsError` where the limit leaves no room for a text, or
    the cache cannot be written.
    """
    paired = len(text) == 2 and separates(tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=paired)
    if limit is not None and limit <= special:
        raise SkillNeuronsError(
            f"a limit of {limit} tokens leaves no room for a text: the tokenizer adds {special} of its own. "
            "Raise the input limit, or take fewer prompt positions."
        )
    parts = [_VERSION, split.fingerprint, json.dumps([*text]), definition(tokenizer), str(limit)]
    folder = cache_folder() / "tokens" / digest(*parts)
    tokens = _open(folder)
    if tokens is None:
        try:
            _make(folder, split, text, tokenizer, limit)
        except OSError as error:
            raise SkillNeuronsError(
                f"the tokenised texts cannot be kept in {folder.parent}: {error.strerror or error}. "
                "Free some space there, or set SKILLNEURONS_CACHE to a folder that can be written."
            ) from error
        tokens = _open(folder)
    if tokens is None:
        raise SkillNeuronsError(
            f"the tokenised texts in {folder} cannot be read back. Delete that folder and run the same command again, "
            "or set SKILLNEURONS_CACHE to a folder on a sound disk."
        )
    return tokens


def encode(
    tokenizer: PreTrainedTokenizerBase, columns: list[list[str]], limit: int | None = None
) -> tuple[dict[str, list[list[int]]], list[int]]:
    """Texts, or of two columns pairs, as the tokenizer's `input_ids` and, where it has them, `token_type_ids`.

    Shortened to `limit` and paired as `tokenize` says; which of them were shortened comes with them.
    """
    if len(columns) == 2 and not separates(tokenizer):
        columns = [[f"{first}\n{second}" for first, second in zip(*columns, strict=True)]]
    options = {"return_attention_mask": False, "verbose": False}
    encoded = dict(tokenizer(*columns, **options))
    long = [i for i, sample in enumerate(encoded["input_ids"]) if limit is not None and len(sample) > limit]
    if long:
        chosen = [[column[i] for i in long] for column in columns]
        with _from_the_right(tokenizer):
            cut = tokenizer(*chosen, truncation="longest_first", max_length=limit, **options)
        for name, values in cut.items():
            for i, sample in zip(long, values, strict=True):
                encoded[name][i] = sample
    return encoded, long


def separates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's pair form puts special tokens between the texts: a pair then gets more than one text."""
    return tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False)


def definition(tokenizer: PreTrainedTokenizerBase) -> str:
    """All of a tokenizer that decides its ids, as text; truncation and padding, which each call sets, are left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = (type(tokenizer).__name__, "token_type_ids" in tokenizer.model_input_names)
    if backend is not None:
        return _of_backend(backend.to_str(), *parts)
    told = [tokenizer.get_vocab(), tokenizer.special_tokens_map, {**tokenizer.init_kwargs, "name_or_path": None}]
    return json.dumps([*parts, told], sort_keys=True, default=str)


@lru_cache(maxsize=2)
def _of_backend(told: str, *parts: str | bool) -> str:
    """Sorting a vocabulary takes a tenth of a second, and every split of a task asks anew."""
    return json.dumps([*parts, json.loads(told) | {"truncation": None, "padding": None}], sort_keys=True)


def _open(folder: Path) -> Tokens | None:
    """The tokens in `folder`; None where there are none, or they are not whole."""
    try:
        meta = read_json(folder / "meta.json", "")
        ids, offsets, labels = (_mapped(folder / f"{name}.npy") for name in ("ids", "offsets", "labels"))
        types = _mapped(folder / "types.npy") if meta["types"] else None
        whole = len(offsets) == len(labels) + 1 and len(ids) == offsets[-1]
        whole = whole and (types is None or len(types) == len(ids))
        return Tokens(ids, offsets, types, labels, meta["cut"], meta["limit"]) if whole else None
    except (SkillNeuronsError, OSError, ValueError, EOFError, KeyError, TypeError, IndexError):
        return None


def _mapped(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _make(
    folder: Path, split: Split, text: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> None:
    """Write the files of `folder` to a temporary one beside it, which then takes its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".*"):  # of writers that were killed
        if left.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(temporary, split, text, tokenizer, limit)
        for _ in range(2):
            try:
                temporary.rename(folder)
                return
            except OSError:  # a folder stands there: another writer's, or a damaged one
                if _open(folder) is not None:
                    return
                shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path, split: Split, text: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> None:
    typed = "token_type_ids" in tokenizer.model_input_names
    cut = end = 0
    with contextlib.ExitStack() as files:
        ids = files.enter_context(_growing(folder / "ids.npy", np.int32))
        offsets = files.enter_context(_growing(folder / "offsets.npy", np.int64))
        labels = files.enter_context(_growing(folder / "labels.npy", np.int64))
        types = files.enter_context(_growing(folder / "types.npy", np.uint8)) if typed else None
        advance = files.enter_context(progress("tokenising", len(split), "samples"))
        offsets(np.zeros(1))
        for start in range(0, len(split), _BATCH):
            columns = [split.column(name, start, start + _BATCH).to_pylist() for name in text]
            encoded, shortened = encode(tokenizer, columns, limit)
            cut += len(shortened)
            lengths = [len(sample) for sample in encoded["input_ids"]]
            ids(np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32))
            if types is not None:
                types(np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.uint8))
            ends = end + np.cumsum(lengths)
            offsets(ends)
            end = int(ends[-1])
            labels(split.labels[start : start + _BATCH])
            advance(len(lengths))
    meta = {"version": _VERSION, "samples": len(split), "tokens": end, "types": typed, "cut": cut, "limit": limit}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


@contextlib.contextmanager
def _from_the_right(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Let the tokenizer cut from the right, and without a log line a pair, as those written in Python would."""
    from transformers.utils import logging

    side, level = tokenizer.truncation_side, logging.get_verbosity()
    tokenizer.truncation_side = "right"
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        tokenizer.truncation_side = side


@contextlib.contextmanager
def _growing(path: Path, dtype: DTypeLike) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Yield `append(values)`, which adds to a one-dimensional .npy file; its length is written last."""
    count = 0
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0,)})
        begin = file.tell()

        def append(values: NDArray[Any]) -> None:
            nonlocal count
            file.write(values.astype(dtype, copy=False).tobytes())
            count += len(values)

        yield append
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (count,)})
        if file.tell() != begin:  # numpy leaves room in the header for any length
            raise AssertionError("the header of an .npy file changed its size")
        file.flush()
        os.fsync(file.fileno())
