"""Loading: what is right is loaded whole and quietly, what is not gets one message with the thing and the remedy."""

from __future__ import annotations

import copy
import json
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from skillneurons import SkillNeuronsError
from skillneurons.models import load_model

from . import vocabulary
from .backbones import fresh, passed, placed
from .families import FAMILIES, REFUSED, named, save_tiny


def configured(folder: Path, **changes: Any) -> Path:
    """The folder, its config.json changed."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def refused(source: Any, told: str, **options: Any) -> str:
    """The one message, of one line, in which `told` is found."""
    with pytest.raises(SkillNeuronsError, match=told) as caught:
        load_model(source, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and ".." not in message.replace("...", "")
    return message


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_is_loaded_whole_and_without_a_word(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny(name, tmp_path)
    model, tokenizer = fresh(name)
    capfd.readouterr()
    loaded = load_model(folder)
    assert capfd.readouterr() == ("", "")
    given = load_model(model, tokenizer=tokenizer)
    assert loaded.name == str(folder)
    assert loaded.sites == given.sites and loaded.kind == given.kind
    assert torch.equal(passed(loaded, placed(loaded))[1], passed(given, placed(given))[1])
    assert load_model(str(folder)).fingerprint == loaded.fingerprint


def test_the_librarys_reports_are_silent_and_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = fresh("bert")
    model.base_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    capfd.readouterr()
    refused(tmp_path, "language-model head")
    assert caplog.text == "" and capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == level
    assert transformers.logging.is_progress_bar_enabled() == bars
    transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)  # the library itself speaks of it
    assert "corrupted" in caplog.text and "LOAD REPORT" in caplog.text and "Loading weights" in capfd.readouterr().err


@pytest.mark.parametrize("source", ["./models/none", "/models/none", "~/models/none", "a/b/c", Path("none")])
def test_a_missing_folder_is_told(source: str | Path) -> None:
    assert str(source) in refused(source, "there is no folder .*Give a local folder with config.json")


@pytest.mark.parametrize("source", ["nobody/nothing", "nothing"])
def test_a_hub_id_that_cannot_be_reached_is_told_at_once(source: str) -> None:
    began = time.monotonic()
    refused(source, f"{source} is no folder here, and cannot be loaded as a model: .* or a hub id that can be reached")
    assert time.monotonic() - began < 5


def test_a_file_or_something_else_is_no_model(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path)
    refused(folder / "model.safetensors", "a model is a folder; .* is a file. Give the folder")
    with pytest.raises((SkillNeuronsError, TypeError), match="Linear"):  # a TypeError where types are checked in tests
        load_model(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    refused(fresh("bert")[0].bert, "a loaded model comes with its tokenizer")


def test_home_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_tiny("bert", tmp_path / "mine")
    assert load_model("~/mine").name == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "model_type"),
        ("{", "not a valid JSON file"),
        ("{}", "model_type"),
        ('{"model_type": "unheard"}', "unheard"),
        ('{"model_type": "vit"}', r"language model is needed; .* \(vit\) is none"),
        ('{"model_type": "whisper"}', r"language model is needed; .* \(whisper\) is none"),
    ],
)
def test_a_folder_without_a_language_models_configuration_is_told(text: str | None, told: str, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path)
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    refused(folder, told)


@pytest.mark.parametrize("name", [*named("masked"), "llama", "qwen2", "qwen3"])
def test_a_folder_without_the_head_is_refused(name: str, tmp_path: Path) -> None:
    model, tokenizer = fresh(name)
    if name.startswith("qwen") or name == "llama":
        model.config.tie_word_embeddings = False
    model.base_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    message = refused(tmp_path, r"a language-model head is needed; .* lacks its weights \(")
    assert f"Save the whole {type(model).__name__}" in message
    refused(model.base_model, f"a {type(model.base_model).__name__} has none", tokenizer=tokenizer)


def test_an_encoder_decoder_without_its_head_or_decoder_is_refused(tmp_path: Path) -> None:
    model: Any
    model, tokenizer = fresh("t5-gated")
    kind: Any
    for kind, told in [
        (transformers.T5Model, r"head is needed; .* lacks its weights \(lm_head.weight\)"),
        (transformers.T5EncoderModel, r"every weight of a model is needed; .* lacks \d+ \("),
    ]:
        folder = tmp_path / kind.__name__
        part = kind(copy.deepcopy(model.config))
        part.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        configured(folder, is_encoder_decoder=True, tie_word_embeddings=False)
        refused(folder, told)
        refused(part, r"a T5Model has none|T5EncoderModel \(t5\) is none", tokenizer=tokenizer)


@pytest.mark.parametrize("name", ["gpt2", "opt", "bart"])
def test_a_head_that_is_the_embeddings_again_is_never_missing(name: str, tmp_path: Path) -> None:
    model, tokenizer = fresh(name)
    model.base_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, whole = load_model(tmp_path), load_model(model, tokenizer=tokenizer)
    assert torch.equal(passed(loaded, placed(loaded))[1], passed(whole, placed(whole))[1])


@pytest.mark.parametrize("name", REFUSED)
def test_experts_are_refused_before_their_weights_are_read(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path)
    (folder / "model.safetensors").unlink()
    refused(folder, "mixture of experts.*Use a dense model")


def test_a_missing_tokenizer_is_told(tmp_path: Path) -> None:
    for name in ("bert", "roberta", "gpt2", "opt", "qwen2", "t5", "llama"):
        folder = save_tiny(name, tmp_path / name)
        for file in folder.glob("*token*"):
            file.unlink()
        refused(folder, r"tokenizer.*tokenizer\.save_pretrained, or give another one: load_model\(\.\.\., tokenizer=\)")
        assert load_model(folder, tokenizer=fresh(name)[1]).kind == FAMILIES[name].kind


@pytest.mark.parametrize("text", ["{", "{}", "not JSON at all"])
def test_a_broken_tokenizer_is_told(text: str, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path)
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "the tokenizer of .* cannot be read: .*Save it beside the model")


def test_a_masked_model_needs_a_mask_token() -> None:
    model, tokenizer = fresh("bert")
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    refused(model, r"masked model is read at its mask token; .* \(bert\) has none", tokenizer=bare)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    refused(fresh("bert")[0], "has 502 tokens, and .* has 80 embeddings", tokenizer=vocabulary.roberta())


def test_a_bert_that_decodes_is_causal() -> None:
    model, tokenizer = fresh("bert")
    model.config.is_decoder = True
    with torch.random.fork_rng(devices=[]):
        decoder = load_model(AutoModelForCausalLM.from_config(model.config), tokenizer=tokenizer)
    assert type(decoder.model).__name__ == "BertLMHeadModel" and decoder.kind == "causal"


CODE = """
from pathlib import Path
from transformers import GPT2Config, GPT2LMHeadModel
Path({marker!r}).touch()

class MineConfig(GPT2Config):
    model_type = {kind!r}

class Mine(GPT2LMHeadModel):
    config_class = MineConfig
"""


@pytest.mark.parametrize("kind", ["brought-along", "gpt2"])
def test_code_that_comes_with_a_model_runs_only_when_trusted(kind: str, tmp_path: Path) -> None:
    folder, marker = save_tiny("gpt2", tmp_path / f"code_{kind.replace('-', '_')}"), tmp_path / "ran"
    (folder / "mine.py").write_text(CODE.format(marker=str(marker), kind=kind))
    configured(folder, model_type=kind, auto_map={"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"})
    if kind == "gpt2":  # the library knows that kind itself
        assert type(load_model(folder).model).__module__ == "transformers.models.gpt2.modeling_gpt2"
    else:
        refused(folder, r"brings code of its own, which runs only with load_model\(\.\.\., trust_remote_code=True\)")
    assert not marker.exists()
    trusted = load_model(folder, trust_remote_code=True)
    assert marker.exists() and type(trusted.model).__name__ == "Mine"
    assert trusted.kind == "causal" and trusted.widths == (44, 44)


@pytest.mark.parametrize("dtype", ["float33", "int8", "nn", "float8_e5m2", torch.int64])
def test_a_dtype_that_is_none_is_told(dtype: Any, tmp_path: Path) -> None:
    refused(save_tiny("bert", tmp_path), f"dtype must be float32, .*; given: {dtype}", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", torch.float16])
def test_weights_take_the_dtype_that_is_asked_for(dtype: str | torch.dtype, tmp_path: Path) -> None:
    folder = save_tiny("t5", tmp_path)
    model = load_model(folder, dtype=dtype)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert model.model.get_input_embeddings().weight.dtype == wanted
    layers, logits = passed(model, placed(model))
    assert logits.dtype == wanted and logits.isfinite().all()
    # the library keeps T5's down-projections in float32 beside float16
    assert layers[0].dtype == (torch.float32 if wanted == torch.float16 else wanted)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99", "meta", ""])
def test_a_device_that_cannot_be_used_is_told(device: str, tmp_path: Path) -> None:
    refused(save_tiny("bert", tmp_path), "the device .*Try --device cpu", device=device)


@pytest.mark.parametrize(("there", "taken"), [("mps", "cpu"), ("cuda", "cuda"), (None, "cpu")])
def test_auto_takes_an_accelerator_that_has_float64(
    there: str | None, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skillneurons.models.loading import usable_device

    found = None if there is None else torch.device(there)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: found is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: found)
    assert usable_device("auto").type == taken


def test_spreading_over_devices_needs_accelerate(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path)
    if find_spec("accelerate") is None:
        refused(folder, "pip install accelerate", device_map="auto")
    else:
        assert load_model(folder, device_map="auto").layers == 2


def test_a_copy_of_a_folder_is_the_same_model(tmp_path: Path) -> None:
    first = save_tiny("llama", tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    one, two = load_model(first), load_model(tmp_path / "second")
    assert one.fingerprint == two.fingerprint and one.name != two.name
    assert len(AutoTokenizer.from_pretrained(first)) == len(two.tokenizer)
