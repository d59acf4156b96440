"""Gradient times activation is the gradient of the likelihood in a neuron's scale, taken one sample at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import skillneurons as sn
from skillneurons.finding.peers.attribution import attribute, attributions
from skillneurons.models import Backbone
from skillneurons.tuning.inputs import Inputs

from .backbones import fresh, hooks, prompt
from .families import FAMILIES, tiny
from .makings import Form, make

CASES: list[tuple[str, Form]] = [
    ("bert", "pair"), ("roberta", "three"), ("albert-groups", "single"), ("modernbert", "single"), ("gpt2", "pair"),
    ("opt", "single"), ("llama", "three"), ("t5", "single"), ("t5-gated", "pair"), ("bart", "three"),
]  # fmt: skip


def loaded(name: str, dtype: torch.dtype = torch.float64) -> Backbone:
    model, tokenizer = fresh(name)
    return sn.load_model(model.to(dtype), tokenizer=tokenizer)


def one_by_one(backbone: Backbone, inputs: Inputs, name: str, split: Any) -> np.ndarray:
    """[class, neuron], each sample alone: every neuron is multiplied by a number that is 1 and has a gradient.

    The derivative in that number is the sum over the tokens of activation times gradient.
    """
    model: Any = backbone.model
    paths = FAMILIES[name].sites
    sums = np.zeros((len(inputs.task.labels), backbone.neurons))
    embedding = prompt(backbone).double()
    for sample, label in enumerate(inputs.labels(split)):
        batch = inputs.batch(split, [sample], embedding)
        scales = [torch.ones(width, dtype=torch.float64, requires_grad=True) for width in backbone.widths]
        waiting = {path: [scale for own, scale in zip(paths, scales, strict=True) if own == path] for path in paths}

        def scaled(_module: Any, given: Any, queue: Any) -> Any:
            return (given[0] * queue.pop(0),)

        attached = [
            model.get_submodule(path).register_forward_pre_hook(
                lambda module, given, path=path, waiting=waiting: scaled(module, given, waiting[path])
            )
            for path in waiting
        ]
        likelihood = inputs.word_logits(batch).log_softmax(1)[0, label]
        for hook in attached:
            hook.remove()
        sums[label] += torch.cat(torch.autograd.grad(likelihood, scales)).abs().numpy()
    return sums


@pytest.mark.parametrize(("name", "form"), CASES)
def test_it_is_the_gradient_of_each_neurons_scale(name: str, form: Form) -> None:
    backbone = loaded(name)
    inputs = Inputs(backbone, make(form, dev=24), 5)
    found = attribute(inputs, "dev", prompt(backbone).double(), "gradients")
    expected = one_by_one(backbone, inputs, name, "dev")
    assert expected.any(1).all()
    assert np.abs(found - expected).max() < 1e-9 * expected.max()


@pytest.mark.parametrize("name", ["bert", "opt", "t5"])
def test_nothing_is_left_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded(name)
    inputs = Inputs(backbone, make("single", dev=8), 5)
    attached = hooks(backbone.model)
    before = backbone.fingerprint
    attribute(inputs, "dev", prompt(backbone).double(), "gradients")
    weights = list(backbone.model.parameters())
    assert all(weight.grad is None and not weight.requires_grad for weight in weights)
    assert backbone.fingerprint == before and hooks(backbone.model) == attached

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(type(inputs), "word_logits", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        attribute(inputs, "dev", prompt(backbone).double(), "gradients")
    assert hooks(backbone.model) == attached and torch.is_grad_enabled()


def test_it_works_where_gradients_are_switched_off() -> None:
    backbone = loaded("bert")
    inputs = Inputs(backbone, make("single", dev=8), 5)
    own = prompt(backbone).double()
    with torch.no_grad():
        found = attribute(inputs, "dev", own, "gradients")
        assert not torch.is_grad_enabled()
    assert np.array_equal(found, attribute(inputs, "dev", own, "gradients"))


def test_a_layer_that_listens_to_one_neuron_has_one_with_an_attribution() -> None:
    model, tokenizer = tiny("roberta")
    down: Any = model.get_submodule(FAMILIES["roberta"].sites[2])
    with torch.no_grad():
        down.weight[:, torch.arange(down.in_features) != 17] = 0
    backbone = sn.load_model(model, tokenizer=tokenizer)
    inputs = Inputs(backbone, make("single", dev=12), 5)
    found = attribute(inputs, "dev", prompt(backbone), "gradients").sum(0)
    assert np.flatnonzero(found[2 * 44 :]).tolist() == [17]
    assert np.count_nonzero(found[: 2 * 44]) > 80


def test_half_precision_is_widened_and_padding_left_out() -> None:
    backbone = loaded("gpt2", torch.bfloat16)
    inputs = Inputs(backbone, make("single", dev=24), 5)
    own = prompt(backbone)
    rows = np.argsort(inputs.tokens("dev").lengths)[[0, -1]]
    batch = inputs.batch("dev", rows, own)
    assert not batch.attention.all()
    found = attributions(inputs, batch, torch.from_numpy(inputs.labels("dev")[rows]))
    assert found.dtype == torch.float32 and bool(found.isfinite().all()) and bool(found.any(1).all())
    exact = Inputs(loaded("gpt2", torch.float32), inputs.task, 5)
    wide = attributions(exact, exact.batch("dev", rows, own), torch.from_numpy(inputs.labels("dev")[rows]))
    assert np.corrcoef(found.flatten(), wide.flatten())[0, 1] > 0.98
