"""An exported model answers as the original, and what is not as it was exported is refused."""

from __future__ import annotations

import io
import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import skillneurons as sn
from skillneurons import progress
from skillneurons.cli import main
from skillneurons.cli.shipping import Export
from skillneurons.pruning import onnx
from skillneurons.pruning.about import sealed
from skillneurons.pruning.artifact import load_pruned
from skillneurons.pruning.config import Runtime
from skillneurons.pruning.cut import without_positions
from skillneurons.pruning.onnx import export, samples
from skillneurons.pruning.prefix import frozen_prompt
from skillneurons.pruning.prefixed import prefixed
from skillneurons.pruning.session import Session, exported, record
from skillneurons.pruning.shipped import Shipped
from skillneurons.pruning.small import Small

from .test_artifact import TEXTS, pruned

ODD = ["", "bright " * 300, "\x00\x01", "a \ud800 b"]


def shipped(name: str, folder: Path, form: Any = "single", baseline: str = "positions") -> Shipped:
    """A tiny model, pruned, read back from its folder."""
    return load_pruned(pruned(name, form, baseline, trials=1).save(folder), device="cpu")


def with_prompt_inside(name: str, folder: Path) -> Shipped:
    """The same with the prompt frozen into keys and values."""
    own = pruned(name, trials=1)
    prefix = frozen_prompt(own.model(0), own.skill.task, own.prompts[0])
    inside = prefixed(without_positions(own.model(0)), prefix.keys, prefix.values)
    small = Small(own.dense, own.skill, inside, prefix.prompt, own.kept, own.baseline, False, own.costs.figures())
    return load_pruned(small.save(folder), device="cpu")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def probabilities(model: Shipped, texts: list[Any]) -> np.ndarray:
    return np.array([[*own.probabilities.values()] for own in model.predict(texts)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """A model that was exported in both ways; its folder to be looked at only."""
    own = shipped("bert", tmp_path_factory.mktemp("onnx") / "small")
    assert export(own, int8=True).name == "model-int8.onnx"
    return own


@pytest.fixture(scope="module")
def folder(model: Shipped) -> Path:
    return Path(model.backbone.name)


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(folder, tmp_path / "small"))


# the same answers


def same(model: Shipped, texts: list[Any]) -> None:
    """The exported model's answers are the original's, together and one by one."""
    other = load_pruned(model.backbone.name, runtime="onnx")
    expected = model.predict(texts)
    for found in (other.predict(texts), [other.predict([text])[0] for text in texts]):
        assert [(own.label, own.note) for own in found] == [(own.label, own.note) for own in expected]
    assert np.abs(probabilities(other, texts) - probabilities(model, texts)).max() < 1e-5
    assert probabilities(model, texts).std(0).max() > 1e-4


@pytest.mark.parametrize(("name", "baseline"), [("opt", "positions"), ("llama", "one"), ("t5", "positions")])
def test_it_answers_as_the_original(name: str, baseline: str, tmp_path: Path) -> None:
    model = shipped(name, tmp_path, baseline=baseline)
    assert export(model) == tmp_path / "model.onnx"
    assert exported(tmp_path)["model.onnx"].off < 1e-4
    same(model, [*TEXTS, *ODD])


@pytest.mark.parametrize("name", ["roberta", "modernbert"])
def test_with_the_prompt_inside(name: str, tmp_path: Path) -> None:
    model = with_prompt_inside(name, tmp_path)
    export(model)
    same(model, [*TEXTS, *ODD])


def test_pairs_have_token_types(tmp_path: Path) -> None:
    model = shipped("bert", tmp_path, "pair")
    export(model)
    same(model, list(pairwise(TEXTS)))
    session = load_pruned(tmp_path, runtime="onnx").session
    assert session is not None
    ids, types = [np.array([5, 6, 7])], [np.array([0, 1, 1])]
    assert not torch.allclose(session(ids, types), session(ids))
    assert torch.equal(session(ids), session(ids, [np.zeros(3, np.int64)]))


def test_int8_is_as_far_off_as_is_told(model: Shipped, folder: Path) -> None:
    off = {}
    for runtime in ("onnx", "onnx-int8"):
        other = load_pruned(folder, runtime=runtime)
        off[runtime] = max(float((other.logits(*given) - model.logits(*given)).abs().max()) for given in samples(model))
    found = exported(folder)
    assert found["model.onnx"].off == pytest.approx(off["onnx"], abs=1e-6)
    assert found["model-int8.onnx"].off == pytest.approx(off["onnx-int8"], abs=1e-6)
    assert off["onnx"] < 1e-5 < off["onnx-int8"] < 1
    assert (folder / "model-int8.onnx").stat().st_size < (folder / "model.onnx").stat().st_size


def test_every_length_is_tried(model: Shipped) -> None:
    lengths = [[len(row) for row in ids] for ids, _ in samples(model)]
    assert {len(own) for own in lengths} == {1, 5}
    assert min(map(min, lengths)) == 0 and max(map(max, lengths)) > 20


def test_it_tells_nothing_of_this_machine(folder: Path) -> None:
    import transformers

    content = (folder / "model.onnx").read_bytes()
    assert b"input_ids" in content and b"token_type_ids" in content
    for place in (Path(onnx.__file__).parents[2], Path(transformers.__file__).parents[1], folder.parent):
        assert str(place).encode() not in content


# what is refused


def test_a_model_that_answers_otherwise_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = load_pruned(own, device="cpu"), files(own)
    forward = onnx._Labels.forward
    some: Any = None

    def changed(self: Any, ids: Any, attention: Any, types: Any) -> Any:
        return forward(self, ids[:some], attention[:some], types[:some]) + 0.01

    monkeypatch.setattr(onnx._Labels, "forward", changed)
    with pytest.raises(sn.SkillNeuronsError, match=r"answers as the original to 0\.001; .* off by 0\.01 once"):
        export(model)
    some = 2
    with pytest.raises(sn.SkillNeuronsError, match="does not run once exported"):
        export(model)
    assert files(own) == {name: content for name, content in before.items() if "onnx" not in name}


def test_int8_that_gives_no_numbers_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_numbers(_: Path, path: Path) -> None:
        path.write_bytes((own / "model.onnx").read_bytes())
        monkeypatch.setattr(Session, "__call__", lambda *_: torch.tensor([[torch.nan]]))

    monkeypatch.setattr(onnx, "_quantize", without_numbers)
    with pytest.raises(sn.SkillNeuronsError, match=r"gives no numbers in int8\. Export it without --int8"):
        export(load_pruned(own, device="cpu"), int8=True)
    assert [*exported(own)] == ["model.onnx"] and not (own / "model-int8.onnx").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model-int8.onnx", "onnx.json"])
def test_a_file_cut_short_or_edited_is_refused(own: Path, name: str) -> None:
    path = own / name
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(sn.SkillNeuronsError, match=r"cut short|cannot be read as JSON"):
        load_pruned(own, runtime="onnx")
    path.write_bytes(content.replace(b"0", b"1", 1))
    with pytest.raises(sn.SkillNeuronsError, match="edited"):
        load_pruned(own, runtime="onnx")
    load_pruned(own)  # is another file's matter
    path.unlink()
    with pytest.raises(sn.SkillNeuronsError, match=r"is missing|has no model\.onnx. Export it again"):
        load_pruned(own, runtime="onnx")


def test_a_list_of_files_by_somebody_else_is_refused(own: Path) -> None:
    told = json.loads((own / "onnx.json").read_text())
    del told["checksum"]
    for changes in ({"surprise": 1}, {"files": {"model.onnx": {"sha256": "0"}}}, {"format": 2}):
        (own / "onnx.json").write_text(json.dumps(sealed({**told, **changes})))
        with pytest.raises(sn.SkillNeuronsError, match="not whole, or was edited"):
            exported(own)
    (own / "onnx.json").write_text(json.dumps(sealed({**told, "files": {"../x": told["files"]["model.onnx"]}})))
    with pytest.raises(sn.SkillNeuronsError, match="leaves the folder"):
        exported(own)
    (own / "model.onnx").write_text("something else")
    record(own, {"model.onnx": 0.0})
    with pytest.raises(sn.SkillNeuronsError, match=r"model\.onnx is no model that onnxruntime can run: "):
        load_pruned(own, runtime="onnx")


def test_a_model_is_exported_into_its_own_folder(model: Shipped, tmp_path: Path) -> None:
    other = pruned("bert", baseline="one", trials=1).save(tmp_path / "other")
    with pytest.raises(sn.SkillNeuronsError, match=r"into its own folder; .*other holds another one"):
        export(model, other)
    with pytest.raises(sn.SkillNeuronsError, match="there is no"):
        export(model, tmp_path)


def test_a_model_with_weights_outside_the_folder_is_refused(own: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../secret")
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["logits"])], "g", [], [output], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (own / "model.onnx").write_bytes(made.SerializeToString())
    record(own, {"model.onnx": 0.0})
    with pytest.raises(sn.SkillNeuronsError, match=r"no model that onnxruntime can run: .*escapes"):
        load_pruned(own, runtime="onnx")


def test_an_export_of_another_model_is_refused(own: Path, tmp_path: Path) -> None:
    other = shipped("bert", tmp_path / "other", baseline="one")
    for path in Path(other.backbone.name).iterdir():
        shutil.copy(path, own)
    with pytest.raises(sn.SkillNeuronsError, match=f"the one in {own} was saved since"):
        load_pruned(own, runtime="onnx")
    load_pruned(own)


@pytest.mark.parametrize("runtime", ["onnx", "onnx-int8"])
def test_what_was_not_exported_is_told(runtime: Runtime, tmp_path: Path) -> None:
    shipped("bert", tmp_path)
    with pytest.raises(sn.SkillNeuronsError, match=r"has no model.*\.onnx\. Export it again: .* --int8"):
        load_pruned(tmp_path, runtime=runtime)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_the_extra_is_named(missing: str, model: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(sn.SkillNeuronsError, match=r"ONNX needs .*pip install 'skillneurons\[onnx\]'"):
        export(model)


def test_float32_alone_is_exported(tmp_path: Path) -> None:
    model = shipped("bert", tmp_path)
    model.backbone.model.bfloat16()
    with pytest.raises(sn.SkillNeuronsError, match=r"exported in float32, .* this one is in torch\.bfloat16"):
        export(model)


# commands


def test_the_commands(own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Export(own, quiet=True).run()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and told[0].startswith(f"{own / 'model.onnx'}: ") and "off by" in told[0]
    with pytest.raises(sn.SkillNeuronsError, match=r"has no model-int8\.onnx"):  # it was of the export before
        load_pruned(own, runtime="onnx-int8")
    answers = []
    monkeypatch.setattr(progress, "_quiet", False)  # which --quiet changes, for this test alone
    for runtime in ("torch", "onnx"):
        text = "\n".join(TEXTS).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert main(["predict", str(own), "--runtime", runtime, "--device", "cpu", "--quiet"]) == 0
        answers.append([line.split("\t") for line in capsys.readouterr().out.splitlines()])
    assert answers[0][0] == answers[1][0] == ["label", "negative", "positive", "note"]
    for one, other in zip(answers[0][1:], answers[1][1:], strict=True):
        assert one[0] == other[0] and float(one[1]) == pytest.approx(float(other[1]), abs=1e-4)
