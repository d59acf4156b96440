"""A shipped model: the same numbers in a fresh process, checked files, and clear answers whatever the text."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import skillneurons as sn
from skillneurons.cli.pruning import Predict, Prune
from skillneurons.pruning.about import About, sealed, sha256
from skillneurons.pruning.artifact import load_pruned
from skillneurons.pruning.config import PruneConfig
from skillneurons.pruning.costs import Costs
from skillneurons.pruning.prune import prune
from skillneurons.pruning.pruned import Pruned
from skillneurons.pruning.shipped import WINDOW, Prediction, Shipped

from .backbones import passed
from .commands import FORKS
from .families import FAMILIES, save_tiny, tiny
from .makings import Form, make, rows

CUT = [name for name in FAMILIES if not name.startswith("albert")]
FOUND: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
TEXTS = [row["text"] for row in rows("single", 12, 5)]


def pruned(name: str, form: Form = "single", baseline: str = "positions", **options: Any) -> Pruned:
    """A tiny model pruned for a small task, untuned."""
    model, tokenizer = tiny(name)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    skill = sn.find(backbone, make(form, train=30, dev=20, test=20), **{**FOUND, **options})
    return prune(backbone, skill, keep=0.25, baseline=baseline, tune=False)


@pytest.fixture(scope="module")
def small() -> Pruned:
    return pruned("roberta", input_limit=12)


@pytest.fixture(scope="module")
def folder(small: Pruned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped model; to be looked at only."""
    return small.save(tmp_path_factory.mktemp("shipped") / "small")


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(folder, tmp_path / "small"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Shipped:
    return load_pruned(folder, device="cpu")


# the same numbers


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Pruned, Path]]:
    """Every family that can be cut, pruned and shipped: half of them with one mean."""
    out = tmp_path_factory.mktemp("families")
    found = {}
    for at, name in enumerate(CUT):
        own = pruned(name, trials=1, baseline=("one", "positions")[at % 2])
        found[name] = own, own.save(out / name)
    return found


@pytest.mark.parametrize("name", CUT)
def test_what_is_shipped_answers_as_what_was_pruned(families: dict[str, tuple[Pruned, Path]], name: str) -> None:
    small, folder = families[name]
    before, after = small.model(0), load_pruned(folder, device="cpu")
    task = small.skill.task
    found = after.predict([row["text"] for row in task.test.rows])
    expected = sn.evaluate(before, task, small.prompts[0])
    assert [own.label for own in found] == [task.labels[at] for at in expected.predicted]
    batch = before.place(small.prompts[0].embedding, [np.array([5, 6, 7]), np.array([8])])
    tokens = [word.token for word in before.label_words(task.words)]
    layers, logits = passed(before, batch)
    layers_after, logits_after = passed(after.backbone, batch)
    assert torch.allclose(logits_after[:, list(after.about.columns)], logits[:, tokens], rtol=0, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(layers, layers_after, strict=True))
    assert after.backbone.widths == before.widths and after.backbone.entrances == before.entrances
    assert not any(own.requires_grad for own in after.backbone.model.parameters())
    assert not after.backbone.model.training


def elsewhere(folders: list[str], into: Any) -> None:
    """What models answer in a process that has seen nothing else."""
    torch.set_num_threads(1)
    into.put([[own.probabilities for own in load_pruned(folder, device="cpu").predict(TEXTS)] for folder in folders])


def test_a_fresh_process_gives_the_same_numbers(families: dict[str, tuple[Pruned, Path]]) -> None:
    folders = [str(folder) for _, folder in families.values()]
    into: multiprocessing.Queue[Any] = FORKS.Queue()
    process = FORKS.Process(target=elsewhere, args=(folders, into))
    process.start()
    found = into.get(timeout=300)
    process.join()
    for folder, there in zip(folders, found, strict=True):
        here = [own.probabilities for own in load_pruned(folder, device="cpu").predict(TEXTS)]
        for one, other in zip(here, there, strict=True):
            assert one.keys() == other.keys()
            assert np.allclose([*one.values()], [*other.values()], rtol=0, atol=1e-6)


def test_weights_are_kept_once_and_the_head_is_the_label_words(small: Pruned, folder: Path, model: Shipped) -> None:
    head: Any = model.backbone.model.get_output_embeddings()
    assert head.weight.shape[0] == 2 and list(model.about.columns) == [0, 1]
    names = dict(model.backbone.model.named_parameters(remove_duplicate=False))
    for name, first in model.about.tied.items():
        assert names.get(name) is names.get(first)
    count = sum(own.numel() for own in model.backbone.model.parameters())
    assert count == model.about.parameters < sum(own.numel() for own in small.model(0).model.parameters())
    buffers = sum(own.numel() for own in model.backbone.model.buffers())
    size = (folder / "model.safetensors").stat().st_size
    assert 4 * (count + model.prompt.numel()) < size < 4 * (count + model.prompt.numel()) + 8 * buffers + 20_000


def test_the_trial_that_is_best_on_dev_is_shipped(small: Pruned, folder: Path, model: Shipped, tmp_path: Path) -> None:
    assert model.about.trial == small.best
    assert torch.equal(model.prompt, small.prompts[small.best].embedding)
    other = 1 - small.best
    assert torch.equal(load_pruned(small.save(tmp_path, trial=other)).prompt, small.prompts[other].embedding)
    with pytest.raises(sn.SkillNeuronsError, match="trials are counted from 0"):
        small.save(tmp_path / "third", trial=2)


def test_the_card_has_the_figures_and_the_limits(small: Pruned, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    means = small.costs.means().set_index("baseline")
    for baseline in ("dense", small.baseline):
        assert f"| {100 * means['test'][baseline]:.1f} %" in card
    assert "cut from the right" in card and "not calibrated" in card and "12 tokens" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")


# files


SPOILT = {
    "model.safetensors": "cut short, edited, or is another model's",
    "config.json": "cut short, edited, or is another model's",
    "tokenizer.json": "cut short, edited, or is another model's",
    "pruned.json": "not whole, or was edited|cannot be read as JSON",
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_file_cut_short_is_told(own: Path, name: str) -> None:
    content = (own / name).read_bytes()
    (own / name).write_bytes(content[:-5])
    with pytest.raises(sn.SkillNeuronsError, match=SPOILT[name]):
        load_pruned(own)
    (own / name).unlink()
    with pytest.raises(sn.SkillNeuronsError, match=r"lacks|there is no"):
        load_pruned(own)


def test_one_bit_is_told(own: Path) -> None:
    path = own / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(sn.SkillNeuronsError, match="cut short, edited"):
        load_pruned(own)


def edited(folder: Path, seal: bool = True, **changes: Any) -> Path:
    """The folder with other content in pruned.json, by somebody who knows of the checksum or does not."""
    path = folder / "pruned.json"
    content = json.loads(path.read_text()) | changes
    del content["checksum"]
    path.write_text(json.dumps(sealed(content) if seal else {**content, "checksum": "0"}))
    return folder


def test_an_edited_description_is_told(own: Path) -> None:
    with pytest.raises(sn.SkillNeuronsError, match="not whole, or was edited"):
        load_pruned(edited(own, seal=False, task="another"))
    with pytest.raises(sn.SkillNeuronsError, match="lacks something, or has too much"):
        load_pruned(edited(own, surprise=1))


def test_another_version_is_told(own: Path) -> None:
    with pytest.raises(sn.SkillNeuronsError, match="is of format 2, this version of skillneurons reads format 1"):
        load_pruned(edited(own, format=2))


def test_weights_of_other_names_are_told(own: Path) -> None:
    path, about = own / "model.safetensors", json.loads((own / "pruned.json").read_text())
    tensors = load_file(path)
    tensors["roberta.renamed.weight"] = tensors.pop("roberta.encoder.layer.0.output.dense.weight")
    save_file(tensors, path, {"skillneurons": "{}"})
    versions, checksums = about["versions"] | {"transformers": "4.0"}, about["checksums"] | {path.name: sha256(path)}
    with pytest.raises(sn.SkillNeuronsError, match=r"weights have the names .* transformers 4\.0 wrote them, and 5"):
        load_pruned(edited(own, versions=versions, checksums=checksums))


def test_no_path_leaves_the_folder(own: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    checksums = json.loads((own / "pruned.json").read_text())["checksums"]
    with pytest.raises(sn.SkillNeuronsError, match="leaves the folder"):
        load_pruned(edited(own, checksums={**checksums, "../secret": sha256(secret)}))
    edited(own, checksums=checksums)
    weights = own / "model.safetensors"
    shutil.move(weights, secret)
    weights.symlink_to(secret)
    with pytest.raises(sn.SkillNeuronsError, match="leaves the folder"):
        load_pruned(own)


def test_other_folders_are_no_shipped_models(tmp_path: Path) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=r"there is no .*pruned\.json"):
        load_pruned(tmp_path)
    (tmp_path / "pruned.json").write_text("[1]")
    with pytest.raises(sn.SkillNeuronsError, match="was not written by skillneurons"):
        load_pruned(tmp_path)


def test_code_of_others_does_not_run(own: Path, small: Pruned) -> None:
    config = json.loads((own / "config.json").read_text())
    config |= {
        "model_type": "stranger",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForMaskedLM": "code.Model"},
    }
    (own / "config.json").write_text(json.dumps(config))
    (own / "code.py").write_text("raise AssertionError('it ran')")
    checksums = json.loads((own / "pruned.json").read_text())["checksums"]
    edited(own, checksums={**checksums, "config.json": sha256(own / "config.json")})
    with pytest.raises(sn.SkillNeuronsError, match="cannot be loaded"):
        load_pruned(own)


def test_what_is_there_is_not_overwritten(small: Pruned, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(sn.SkillNeuronsError, match="holds other files"):
        small.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_written_again_it_is_the_same(small: Pruned, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    small.save(own)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    with monkeypatch.context() as patched:
        patched.setattr("skillneurons.pruning.artifact.card", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small.save(own, trial=1 - small.best)
    with pytest.raises(sn.SkillNeuronsError, match="not whole, or was edited"):  # neither the one nor the other
        load_pruned(own)
    small.save(own)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


# texts


def test_texts_are_answered_in_their_order_alone_or_together(model: Shipped) -> None:
    together = model.predict(TEXTS)
    for text, found in zip(TEXTS, together, strict=True):
        [alone] = model.predict([text])
        assert alone.label == found.label and np.allclose(
            [*alone.probabilities.values()], [*found.probabilities.values()], atol=1e-6
        )
    assert len({found.probabilities["positive"] for found in together}) > 3


def test_probabilities_are_the_softmax_over_the_label_words(small: Pruned, model: Shipped) -> None:
    before, task = small.model(small.best), small.skill.task
    [found] = model.predict(["bright river"])
    assert not found.note
    ids = np.array(before.tokenizer("bright river")["input_ids"])
    logits = before.answer(before.place(small.prompts[small.best].embedding, [ids]))[0].double()
    values = torch.stack([logits[word.token] for word in before.label_words(task.words)]).softmax(0)
    assert [*found.probabilities] == [*task.labels]
    assert np.allclose([*found.probabilities.values()], values.numpy(), atol=1e-6)
    assert found.label == max(found.probabilities, key=lambda label: found.probabilities[label])


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "empty text"),
        ("  \t ", "empty text"),
        ("\x00\x01 \x1b", ""),
        ("a \ud800 b", "unreadable signs replaced"),
        ("bright " * 150_000, "cut to 12 tokens"),
        ("x" * 50_000, "cut to 12 tokens"),
    ],
    ids=["empty", "blank", "binary", "surrogate", "long", "one word"],
)
def test_any_text_gets_an_answer_and_a_note(model: Shipped, text: str, note: str) -> None:
    [before, found, after] = model.predict([TEXTS[0], text, TEXTS[1]])
    assert found.note == note
    assert sum(found.probabilities.values()) == pytest.approx(1)
    for own, alone in zip((before, after), model.predict(TEXTS[:2]), strict=True):
        assert own.label == alone.label and own.note == alone.note


def test_pairs(tmp_path: Path) -> None:
    small = pruned("bert", "pair")
    model = load_pruned(small.save(tmp_path))
    task = small.skill.task
    pairs = [(row["before"], row["text"]) for row in task.test.rows]
    expected = sn.evaluate(small.model(small.best), task, small.prompts[small.best])
    assert [own.label for own in model.predict(pairs)] == [task.labels[at] for at in expected.predicted]
    assert model.predict([["a", ""]])[0].note == "empty text in it"
    for wrong in ("one", ("a", "b", "c"), ("a", 1), 5):
        with pytest.raises(sn.SkillNeuronsError, match=r"takes a pair of texts each: .*given as number 2: ") as told:
            model.predict([("a", "b"), wrong])  # type: ignore[list-item]
        assert f"{wrong!r}. Mend" in str(told.value)


def test_what_is_no_text_is_told_after_what_came_before(model: Shipped) -> None:
    found: list[Prediction] = []
    with pytest.raises(sn.SkillNeuronsError, match="takes one text each, a str; given as number 3: b'raw'"):
        found.extend(iter_into(found, model.stream([*TEXTS[:2], b"raw"])))  # type: ignore[list-item]
    assert [own.label for own in found] == [own.label for own in model.predict(TEXTS[:2])]

    def broken() -> Iterator[str]:
        yield TEXTS[0]
        raise OSError("the line is dead")

    found.clear()
    with pytest.raises(OSError, match="the line is dead"):
        iter_into(found, model.stream(broken()))
    assert len(found) == 1
    with pytest.raises(sn.SkillNeuronsError, match=r"given: one text\. Put it in \[\]"):
        model.predict("just one")


def iter_into(found: list[Prediction], stream: Iterator[Prediction]) -> list[Prediction]:
    for own in stream:
        found.append(own)
    return []


def test_ten_thousand_texts_are_never_held_at_once(model: Shipped) -> None:
    asked = answered = most = 0

    def texts() -> Iterator[str]:
        nonlocal asked
        for at in range(10_000):
            asked += 1
            yield TEXTS[at % len(TEXTS)]

    expected = [own.label for own in model.predict(TEXTS)]
    for own in model.stream(texts()):
        assert own.label == expected[answered % len(TEXTS)]
        most = max(most, asked - answered)
        answered += 1
    assert answered == 10_000 and most == WINDOW
    assert [own.label for own in model.stream(iter(TEXTS), window=1)] == expected


def test_long_texts_are_fewer_at_once(model: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillneurons.pruning.shipped.SIGNS", 1000)
    asked: list[int] = []

    def texts() -> Iterator[str]:
        for at in range(6):
            asked.append(at)
            yield "a" * 700

    assert next(model.stream(texts())).note == "cut to 12 tokens" and asked == [0, 1]


# the command


class Bytes:
    """Standard input of these bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def commanded(
    folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **options: Any
) -> list[str]:
    monkeypatch.setattr("sys.stdin", Bytes(content))
    try:
        Predict(folder, device="cpu", **options).run()
    finally:
        lines = capsys.readouterr().out.splitlines()
    return lines


def test_the_command_reads_lines_and_writes_a_table(
    folder: Path, model: Shipped, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skillneurons.cli.pruning.LONGEST", 2000)
    content = "\n".join(TEXTS).encode() + b"\r\n\n\xff\xfe\n" + b"x " * 5000 + b"\nlast"
    lines = commanded(folder, content, monkeypatch, capsys)
    assert lines[0].split("\t") == ["label", "negative", "positive", "note"]
    assert len(lines) == 1 + len(TEXTS) + 4
    for line, own in zip(lines[1:], model.predict([*TEXTS, ""]), strict=False):
        label, *probabilities, note = line.split("\t")
        assert (label, note) == (own.label, own.note)
        assert [float(value) for value in probabilities] == pytest.approx([*own.probabilities.values()], abs=1e-5)
    assert [line.split("\t")[-1] for line in lines[-4:]] == [
        "empty text", "unreadable signs replaced", "cut to 12 tokens", "",
    ]  # fmt: skip


def test_the_command_writes_json_lines(
    folder: Path, model: Shipped, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = commanded(folder, "\n".join(TEXTS).encode(), monkeypatch, capsys, format="jsonl", window=5)
    for line, own in zip(lines, model.predict(TEXTS), strict=True):
        found = json.loads(line)
        assert found["label"] == own.label and found["note"] == own.note
        assert found["probabilities"] == pytest.approx(dict(own.probabilities), abs=1e-5)


def test_the_command_loses_nothing_of_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pruned("bert", "pair", trials=1).save(tmp_path)
    monkeypatch.setattr("sys.stdin", Bytes(b"one\ttwo\nthree\tfour\nno tab here\nfive\tsix\n"))
    with pytest.raises(sn.SkillNeuronsError, match=r"given as number 3: \['no tab here'\]"):
        Predict(folder, device="cpu").run()
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_run_is_pruned_and_shipped_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = sn.load_model(save_tiny("bert", tmp_path / "model"), device="cpu")
    run = tmp_path / "run"
    sn.find(backbone, make("single", train=30, dev=20, test=20), out=run, **FOUND)
    Prune(run, device="cpu", config=PruneConfig(keep=0.25, tune=False)).run()
    said = " ".join(capsys.readouterr().out.split())
    costs = Costs.load(run / "pruned")
    assert costs.verdict in said and "skillneurons predict" in said
    assert (run / "pruned" / "figures" / "costs.svg").exists()
    assert About.read(run / "pruned" / "model").model == "model"  # no path of this machine
    lines = commanded(run / "pruned" / "model", b"a text", monkeypatch, capsys)
    assert len(lines) == 2
