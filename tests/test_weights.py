"""Weights: all of them, finite, from safetensors; drawn anew by a seed; and the fingerprint that tells them apart."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from skillneurons import Backbone
from skillneurons.models import load_model

from .backbones import backbone, fresh, passed, placed
from .families import FAMILIES, save_tiny
from .test_loading import configured, refused


class Trap:
    """What makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_not_read(name: str, tmp_path: Path) -> None:
    folder, sprung = save_tiny("bert", tmp_path / "mine"), tmp_path / "sprung"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    refused(folder, rf"weights must be safetensors.* has {name}\. .*save it anew with save_pretrained")
    assert not sprung.exists()
    pickle.loads((folder / name).read_bytes())
    assert sprung.exists()  # the trap works


def unpickled(*_: Any, **__: Any) -> None:
    pytest.fail("a pickle was read")


def cached(name: str, folder: Path) -> Path:
    """A snapshot in the hub's cache, with the files of `folder`, that is found as `name`."""
    place = Path(os.environ["HF_HOME"]) / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    return shutil.copytree(folder, place / "snapshots" / ("0" * 40))


def test_a_model_of_the_hub_is_read_from_safetensors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", unpickled)
    folder = cached("tests/tiny", save_tiny("bert", tmp_path / "mine"))
    model, local = load_model("tests/tiny"), load_model(tmp_path / "mine")
    assert model.name == "tests/tiny" and model.fingerprint == local.fingerprint
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused("tests/tiny", r"the weights of tests/tiny cannot be read: .*model\.safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("way", ["index", "config", "config's index"])
def test_pickles_that_a_folder_passes_off_as_safetensors_are_not_read(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny("bert", tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    torch.save(weights, folder / "adapter_model.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "adapter_model.bin")}
    if way == "index":
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    elif way == "config":
        configured(folder, transformers_weights="adapter_model.bin")
    else:
        (folder / "mine.safetensors.index.json").write_text(json.dumps(index))
        configured(folder, transformers_weights="mine.safetensors.index.json")
    monkeypatch.setattr(torch, "load", unpickled)
    refused(folder, r"weights must be safetensors.* has adapter_model\.bin")


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    model, tokenizer = fresh("roberta")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole = load_model(model, tokenizer=tokenizer)
    assert torch.equal(passed(load_model(tmp_path), placed(whole))[1], passed(whole, placed(whole))[1])
    next(tmp_path.glob("*.safetensors")).unlink()
    refused(tmp_path, "the weights of .* cannot be read: .*copy or download it again")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_truncated_weights_are_told(kept: float, tmp_path: Path) -> None:
    file = save_tiny("bert", tmp_path) / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    refused(tmp_path, "the weights of .* cannot be read: .*model.safetensors alone: copy or download it again")


@pytest.mark.parametrize(
    "data", [b"something else " * 100, b"\x80\x04" * 300, b"version https://git-lfs\nsize 1\n" * 9]
)
def test_foreign_bytes_are_told(data: bytes, tmp_path: Path) -> None:
    save_tiny("bert", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data)
    refused(tmp_path, "the weights of .* cannot be read")


def test_no_weights_at_all_are_told(tmp_path: Path) -> None:
    (save_tiny("bert", tmp_path) / "model.safetensors").unlink()
    refused(tmp_path, r"the weights of .* cannot be read: .*no file named model\.safetensors")


def test_a_t5_has_the_head_that_its_folder_has(tmp_path: Path) -> None:
    folder = configured(save_tiny("t5-gated", tmp_path), tie_word_embeddings=False)  # as published
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = -weights["shared.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(folder)
    assert torch.equal(model.model.get_output_embeddings().weight, weights["lm_head.weight"])
    whole = backbone("t5-gated", torch.float32)
    torch.testing.assert_close(passed(model, placed(model))[1], -passed(whole, placed(whole))[1])


def test_missing_weights_are_told(tmp_path: Path) -> None:
    configured(save_tiny("bert", tmp_path), num_hidden_layers=3)
    refused(tmp_path, r"every weight .* lacks 16 \(bert\.encoder\.layer\.2\..*, \.\.\.\)")


def test_weights_of_other_shapes_are_told(tmp_path: Path) -> None:
    configured(save_tiny("bert", tmp_path), intermediate_size=50)
    refused(tmp_path, r"6 have not, such as bert\.encoder\.layer\.0\..*: \[44\], not \[50\]\. Copy or download")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_weights_that_are_no_finite_numbers_are_told(name: str, value: float, tmp_path: Path) -> None:
    file = save_tiny(name, tmp_path) / "model.safetensors"
    weights = load_file(file)
    path = sorted(path for path in weights if "layer" in path or "block" in path)[-1]
    weights[path].view(-1)[3] = value
    save_file(weights, file, metadata={"format": "pt"})
    refused(tmp_path, rf"weights must be finite numbers; {path} of .* holds NaN or infinity\. Load an intact copy")


def test_weights_too_large_for_the_dtype_are_told(tmp_path: Path) -> None:
    model, tokenizer = fresh("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight[0, 0] = 1e5
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    refused(tmp_path, "layer.0.output.dense.weight .*or another dtype", dtype="float16")
    assert load_model(tmp_path, dtype="bfloat16").layers == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_random_weights_have_the_shapes_and_nothing_else(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path)
    model = load_model(folder)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    blank, same, other = (load_model(folder, random_weights=True, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert blank.random and not model.random and "random weights" in repr(blank)
    assert (blank.sites, blank.kind, blank.room(5)) == (model.sites, model.kind, model.room(5))
    weights, drawn, again = (dict(own.model.named_parameters()) for own in (model, blank, same))
    assert {path: own.shape for path, own in weights.items()} == {path: own.shape for path, own in drawn.items()}
    assert all(torch.equal(own, again[path]) for path, own in drawn.items())
    matrices = [path for path, own in drawn.items() if own.ndim == 2 and own.shape[0] > 1]
    for another in (weights, dict(other.model.named_parameters())):
        assert not [path for path in matrices if torch.equal(drawn[path], another[path])]
    assert blank.fingerprint == same.fingerprint != other.fingerprint != model.fingerprint
    assert not any(own.requires_grad for own in drawn.values()) and not blank.model.training


def test_random_weights_of_a_loaded_model_are_those_of_its_folder(tmp_path: Path) -> None:
    model, tokenizer = fresh("gpt2")
    kept = {path: own.clone() for path, own in model.named_parameters()}
    blank = load_model(model, tokenizer=tokenizer, random_weights=True, seed=5)
    assert blank.fingerprint == load_model(save_tiny("gpt2", tmp_path), random_weights=True, seed=5).fingerprint
    assert all(torch.equal(own, kept[path]) for path, own in model.named_parameters())


def test_random_weights_do_not_depend_on_the_dtype(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path)
    wide, narrow = (load_model(folder, random_weights=True, dtype=dtype).model for dtype in ("float32", "bfloat16"))
    saved_narrow = load_model(configured(folder, dtype="bfloat16"), random_weights=True).model
    for one, other, same in zip(wide.parameters(), narrow.parameters(), saved_narrow.parameters(), strict=True):
        assert torch.equal(one.bfloat16(), other) and torch.equal(one, same)


def loaded(name: str) -> Backbone:
    model, tokenizer = fresh(name)
    return load_model(model, tokenizer=tokenizer)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5-gated"])
def test_the_fingerprint_tells_every_weight(name: str) -> None:
    model = loaded(name)
    before = model.fingerprint
    assert len(before) == 32 and loaded(name).fingerprint == before
    weights = dict(model.model.named_parameters())
    seen = [before]
    for weight in weights.values():
        last = weight.view(-1)[-1:]
        value = last.clone()
        last += 1e-3
        seen.append(replace(model).fingerprint)
        last.copy_(value)
    assert len(set(seen)) == 1 + len(weights)
    assert replace(model).fingerprint == before


def test_the_fingerprint_tells_dtype_configuration_and_tokenizer() -> None:
    before = loaded("bert").fingerprint

    def more_words(model: Backbone) -> None:
        model.tokenizer.add_tokens(["unheard"])

    def another_mask(model: Backbone) -> None:
        model.tokenizer.mask_token = "[UNK]"

    def no_types(model: Backbone) -> None:
        model.tokenizer.model_input_names = ["input_ids", "attention_mask"]

    def another_activation(model: Backbone) -> None:
        model.model.config.hidden_act = "relu"

    seen = {before}
    for change in (more_words, another_mask, no_types, another_activation, lambda model: model.model.double()):
        model = loaded("bert")
        change(model)
        seen.add(model.fingerprint)
    assert len(seen) == 6


@pytest.mark.parametrize("name", FAMILIES)
def test_the_fingerprint_does_not_tell_where_a_model_lies_or_what_was_done_with_it(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path / "one")
    new = load_model(folder)
    used = load_model(folder.rename(tmp_path / "other"))
    passed(used, placed(used))
    used.tokenizer([" a cold match"], truncation=True, max_length=4, padding=used.tokenizer.pad_token is not None)
    assert used.fingerprint == new.fingerprint != backbone(name).fingerprint
