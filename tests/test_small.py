"""A smaller model of any form as a folder: dense or cut, beside a prompt that is whole, shorter or frozen."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import skillneurons as sn
from skillneurons.models import PlacedLinear
from skillneurons.pruning.about import sealed, sha256
from skillneurons.pruning.artifact import load_pruned
from skillneurons.pruning.cut import cut, without_positions
from skillneurons.pruning.means import of_run
from skillneurons.pruning.prefix import frozen_prompt
from skillneurons.pruning.prefixed import Prefixed, prefixed
from skillneurons.pruning.shorter import shorter
from skillneurons.pruning.small import Figures, Small
from skillneurons.tuning.inputs import Inputs

from .commands import FORKS
from .families import tiny
from .makings import make, rows

POSITIONS = 6
KEEP = 0.25
FORMS = ["whole", "shorter", "frozen", "frozen in a cut model", "one mean, frozen"]
FAMILIES = ["bert", "roberta", "electra", "modernbert"]
TEXTS = [row["text"] for row in rows("single", 12, 5)]
SHOWN = Figures(model="FFNs whole", prompt="frozen", dev=0.75, test=0.625, low=0.5, high=0.7125)


def found(name: str) -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = tiny(name)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    task = make("single", train=30, dev=20, test=20)
    options: dict[str, Any] = {"trials": 1, "positions": POSITIONS, "prompt": "random", "init_std": 0.5}
    return backbone, sn.find(backbone, task, input_limit=12, **options)


def made(model: sn.Backbone, skill: sn.SkillNeurons, form: str) -> Small:
    """The run's model in one of the forms."""
    [prompt], task = skill.prompts, skill.task
    if form == "whole":
        return Small(model, skill, model, prompt, figures=[SHOWN])
    if form == "shorter":
        return Small(model, skill, model, shorter(model, task, prompt, 2), retuned=True)
    if form == "frozen":
        prefix = frozen_prompt(model, task, prompt)
        return Small(model, skill, prefix.applied(model), prefix.prompt, figures=[SHOWN])
    one = form.startswith("one")
    kept, layers = skill.top(fraction=KEEP, scope="layer"), range(1, model.layers)
    small = cut(model, kept, layers, of_run(skill, 0), one)
    prefix = frozen_prompt(small, task, prompt)
    inside = prefixed(without_positions(small), prefix.keys, prefix.values)
    chosen = sn.NeuronSet(tuple(pair for pair in kept if pair[0] in layers), model.widths)
    return Small(model, skill, inside, prefix.prompt, chosen, "one" if one else "positions")


def probabilities(small: Small) -> np.ndarray:
    """Of every test sample, by the model in memory."""
    inputs = Inputs.beside(small.model, small.skill.task, small.prompt)
    with torch.no_grad():
        batch = inputs.batch("test", range(20), small.prompt.embedding)
        return inputs.word_logits(batch).double().softmax(1).numpy()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Small, Path]]:
    """Every family in every form; the folders to be looked at only."""
    out = tmp_path_factory.mktemp("shipped")
    every = {}
    for name in FAMILIES:
        model, skill = found(name)
        for form in FORMS:
            small = made(model, skill, form)
            every[name, form] = small, small.save(out / name / form)
    return every


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_shipped_answers_as_what_was_made(
    shipped: dict[tuple[str, str], tuple[Small, Path]], name: str, form: str
) -> None:
    small, folder = shipped[name, form]
    model = load_pruned(folder, device="cpu")
    answers = model.predict([row["text"] for row in small.skill.task.test.rows])
    values = np.array([[*own.probabilities.values()] for own in answers])
    assert np.allclose(values, probabilities(small), rtol=0, atol=1e-5)
    assert np.ptp(values[:, 0]) > 1e-3
    assert model.about.prompt == small.form == form.split()[-1].replace("model", "frozen")
    assert model.about.positions == small.positions == (2 if form == "shorter" else POSITIONS)


def elsewhere(folders: list[str], into: Any) -> None:
    """What models answer in a process that has seen nothing else."""
    torch.set_num_threads(1)
    into.put([[own.probabilities for own in load_pruned(folder, device="cpu").predict(TEXTS)] for folder in folders])


def test_a_fresh_process_gives_the_same_numbers(shipped: dict[tuple[str, str], tuple[Small, Path]]) -> None:
    folders = [str(folder) for _, folder in shipped.values()]
    into: multiprocessing.Queue[Any] = FORKS.Queue()
    process = FORKS.Process(target=elsewhere, args=(folders, into))
    process.start()
    answers = into.get(timeout=300)
    process.join()
    for folder, there in zip(folders, answers, strict=True):
        here = [own.probabilities for own in load_pruned(folder, device="cpu").predict(TEXTS)]
        for one, other in zip(here, there, strict=True):
            assert np.allclose([*one.values()], [*other.values()], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_the_prompts_positions_are_not_shipped(
    shipped: dict[tuple[str, str], tuple[Small, Path]], name: str
) -> None:
    small, folder = shipped[name, "frozen in a cut model"]
    model = load_pruned(folder, device="cpu").backbone
    tables = [own for own in model.model.modules() if isinstance(own, PlacedLinear)]
    assert len(tables) == small.model.layers - 1 and all(len(own.bias) == 2 for own in tables)


def test_keys_and_values_are_tensors_of_the_weights(shipped: dict[tuple[str, str], tuple[Small, Path]]) -> None:
    small, folder = shipped["bert", "frozen"]
    tensors = load_file(folder / "model.safetensors")
    assert isinstance(small.model, Prefixed)
    assert torch.equal(tensors["keys"], small.model.keys) and torch.equal(tensors["values"], small.model.values)
    assert tensors["prompt"].shape == (0, small.model.embedding_size)
    whole = load_file(shipped["bert", "whole"][1] / "model.safetensors")
    assert not {"keys", "values"} & set(whole) and len(whole["prompt"]) == POSITIONS


def test_a_text_is_cut_to_the_room_beside_the_whole_prompt(
    shipped: dict[tuple[str, str], tuple[Small, Path]],
) -> None:
    for form in FORMS:
        [found] = load_pruned(shipped["bert", form][1], device="cpu").predict(["bright " * 500])
        assert found.note == "cut to 12 tokens"


def test_the_card_says_what_was_done(shipped: dict[tuple[str, str], tuple[Small, Path]]) -> None:
    cards = {form: " ".join((shipped["bert", form][1] / "README.md").read_text().split()) for form in FORMS}
    assert "whole. Its prompt has the run's 6 positions." in cards["whole"]
    assert "has the 2 of the run's positions that carry most; it was tuned further." in cards["shorter"]
    assert "prompt of 6 positions is frozen into keys and values" in cards["frozen"]
    assert "most predictive neurons of layers 1 stay" in cards["frozen in a cut model"]
    assert "one mean over the prompt, for every token" in cards["one mean, frozen"]
    assert "| FFNs whole | frozen | 75.0 % | 62.5 % | 50.0 to 71.2 % |" in cards["frozen"]


def test_a_folder_without_its_keys_is_told(shipped: dict[tuple[str, str], tuple[Small, Path]], tmp_path: Path) -> None:
    folder = shipped["bert", "frozen"][0].save(tmp_path)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["keys"]
    save_file(tensors, path, {"skillneurons": "{}"})
    content = json.loads((folder / "pruned.json").read_text())
    content["checksums"][path.name] = sha256(path)
    del content["checksum"]
    (folder / "pruned.json").write_text(json.dumps(sealed(content)))
    with pytest.raises(sn.SkillNeuronsError, match="weights have the names that the library gives them; keys has not"):
        load_pruned(folder)
