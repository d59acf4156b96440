"""Neuron sets: what they hold, what they refuse, and the JSON that they are kept as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skillneurons import NeuronSet, SkillNeuronsError

CHOSEN = NeuronSet(((2, 5), (0, 3), (2, 1)), (4, 4, 6), {"order": "top", "fraction": 0.2})


def test_a_set_keeps_its_order_and_tells_its_layers() -> None:
    assert len(CHOSEN) == 3
    assert list(CHOSEN) == [(2, 5), (0, 3), (2, 1)]
    assert (0, 3) in CHOSEN and (0, 4) not in CHOSEN and 3 not in CHOSEN
    layers = CHOSEN.by_layer()
    assert list(layers) == [0, 2]
    assert layers[0].tolist() == [3] and layers[2].tolist() == [1, 5]
    assert repr(CHOSEN) == "NeuronSet(3 of 14 neurons; order=top, fraction=0.2)"
    assert repr(NeuronSet((), (4,))) == "NeuronSet(0 of 4 neurons)"


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "sets" / "top.json"
    CHOSEN.save(file)
    assert json.loads(file.read_text()) == {
        "neurons": [[2, 5], [0, 3], [2, 1]], "widths": [4, 4, 6], "selection": {"order": "top", "fraction": 0.2}
    }  # fmt: skip
    assert NeuronSet.load(file) == CHOSEN


@pytest.mark.parametrize("neuron", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_neuron_that_the_model_does_not_have_is_refused(neuron: tuple[int, int]) -> None:
    told = rf"layers of \[4, 4, 6\] neurons; given: \({neuron[0]}, {neuron[1]}\)"
    with pytest.raises(SkillNeuronsError, match=told):
        NeuronSet((neuron,), (4, 4, 6))


def test_a_neuron_named_twice_is_refused() -> None:
    with pytest.raises(SkillNeuronsError, match=r"once; given twice: \(1, 2\)"):
        NeuronSet(((1, 2), (0, 0), (1, 2)), (4, 4))


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"neurons": [[0, 1]]}, {"neurons": [[0]], "widths": [4]}, {"neurons": [[0, 1.5]], "widths": [4]},
        {"neurons": [[0, "1"]], "widths": [4]}, {"neurons": 7, "widths": [4]}, {"neurons": [], "widths": None},
        {"neurons": [], "widths": [4], "selection": 3},
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_told(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_text(json.dumps(content))
    with pytest.raises(SkillNeuronsError, match=r"set\.json holds no neuron set .*NeuronSet\.save writes it"):
        NeuronSet.load(file)


def test_a_missing_file_and_one_that_is_cut_are_told(tmp_path: Path) -> None:
    with pytest.raises(SkillNeuronsError, match=r"there is no .*top\.json\. A neuron set is a JSON file"):
        NeuronSet.load(tmp_path / "top.json")
    (tmp_path / "top.json").write_text('{"neurons": [[0,')
    with pytest.raises(SkillNeuronsError, match=r"top\.json cannot be read as JSON.*A neuron set is"):
        NeuronSet.load(tmp_path / "top.json")
