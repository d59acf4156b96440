"""The fast dropout drops what it should, and changes nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from skillneurons.models.dropout import Dropout

from .backbones import fresh

NEVER = 1e-9  # rounds to dropping nothing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_mean(dtype: torch.dtype, p: float) -> None:
    entries = 400_000
    with Dropout(0):
        dropped = functional.dropout(torch.ones(4, entries // 4, dtype=dtype), p, training=True)
    gone = (dropped == 0).double().mean()
    error = (p * (1 - p) / entries) ** 0.5
    assert abs(float(gone) - p) < 4 * error + 1e-5
    left = dropped[dropped != 0]
    assert (left == left[0]).all()
    assert float(left[0]) == pytest.approx(1 / (1 - p), rel=1e-4 if dtype != torch.bfloat16 else 4e-3)


def test_masks_are_decided_by_the_seed_and_differ_from_call_to_call() -> None:
    ones = torch.ones(1000)

    def two(seed: int) -> list[Tensor]:
        with Dropout(seed):
            return [functional.dropout(ones, 0.5) for _ in range(2)]

    first, second = two(1)
    assert torch.equal(first, two(1)[0]) and torch.equal(second, two(1)[1])
    assert 400 < (first != second).sum() < 600 and 400 < (first != two(2)[0]).sum() < 600


def test_the_gradient_flows_where_entries_stay() -> None:
    values = torch.randn(50, 50, requires_grad=True)
    with Dropout(0):
        dropped = functional.dropout(values, 0.3)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad, torch.where(dropped == 0, 0, dropped / values).detach(), rtol=1e-5)


MASKS: dict[str, Any] = {
    "none": None,
    "bool": torch.tensor([[[[True] * 5 + [False] * 2]], [[[False] * 3 + [True] * 4]]]),
    "added": torch.tensor([[0.0, -3.0, 2.0, 0.0, torch.finfo(torch.float64).min, 0.0, 1.0]], dtype=torch.float64),
    "causal": None,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("scale", "grouped"), [(None, False), (0.7, True)])
def test_attention_is_the_librarys(mask: str, scale: float | None, grouped: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    heads = (6, 3, 3) if grouped else (3, 3, 3)
    given = [torch.randn(2, count, 7, 4, dtype=torch.float64, generator=draw, requires_grad=True) for count in heads]
    query, key, value = given
    weight = torch.randn(query.shape, dtype=torch.float64, generator=draw)
    options: dict[str, Any] = {
        "attn_mask": MASKS[mask], "scale": scale, "is_causal": mask == "causal", "enable_gqa": grouped
    }  # fmt: skip
    library = functional.scaled_dot_product_attention(query, key, value, **options)
    with Dropout(0):
        own = functional.scaled_dot_product_attention(query, key, value, dropout_p=NEVER, **options)
    assert torch.allclose(own, library, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((out * weight).sum(), given) for out in (own, library)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_attention_drops_its_weights() -> None:
    """With value the identity the output is the weights themselves."""
    query = torch.zeros(1, 8, 100, 4)
    value = torch.eye(100).expand(1, 8, 100, 100)
    with Dropout(0):
        weights = functional.scaled_dot_product_attention(query, query, value, dropout_p=0.2)
    gone = float((weights == 0).double().mean())
    assert abs(gone - 0.2) < 4 * (0.16 / weights.numel()) ** 0.5 + 1e-5
    assert torch.allclose(weights[weights != 0], torch.tensor(0.01 / 0.8), rtol=1e-4)


def test_a_token_that_may_look_nowhere_gives_numbers() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool).tril(-1)  # the first one sees nothing
    query = torch.randn(1, 1, 4, 3, requires_grad=True)
    with Dropout(0):
        out = functional.scaled_dot_product_attention(query, query, query, attn_mask=mask, dropout_p=0.1)
    out.sum().backward()
    assert out.isfinite().all() and query.grad is not None and query.grad.isfinite().all()


def test_nothing_else_is_touched() -> None:
    values = torch.randn(3, 4)
    causal: dict[str, Any] = {"is_causal": True, "dropout_p": 0.0}
    query = torch.randn(1, 2, 5, 3)
    expected = functional.scaled_dot_product_attention(query, query, query, **causal)
    with Dropout(0):
        assert torch.equal(functional.dropout(values, 0.5, training=False), values)
        assert torch.equal(functional.dropout(values, 0.0), values)
        assert torch.equal(functional.dropout(values, 1.0), torch.zeros(3, 4))
        assert torch.equal(functional.scaled_dot_product_attention(query, query, query, **causal), expected)
        assert torch.equal(values.relu(), values.clamp(min=0))
        layer = nn.Dropout(0.5)
        assert (layer(values) == 0).any() and torch.equal(layer.eval()(values), values)


@pytest.mark.parametrize("name", ["roberta", "gpt2", "opt", "llama", "t5", "deberta-v2", "modernbert"])
def test_a_models_dropout_is_taken_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training nothing calls torch's own Bernoulli numbers any more, where the model has dropout at all."""
    model, _ = fresh(name)
    model.train()
    width = model.get_input_embeddings().weight.shape[1]
    embeddings = torch.randn(2, 6, width, generator=torch.Generator().manual_seed(0))
    more = {"decoder_input_ids": torch.ones(2, 1, dtype=torch.long)} if name == "t5" else {}
    state = torch.get_rng_state()
    drawn: list[int] = []
    dropped = Dropout._dropped

    def watched(self: Dropout, values: Tensor, p: float) -> Tensor:
        drawn.append(values.numel())
        return dropped(self, values, p)

    monkeypatch.setattr(Dropout, "_dropped", watched)
    found = []
    for seed in (0, 0, 1):
        with Dropout(seed):
            found.append(model(inputs_embeds=embeddings, attention_mask=torch.ones(2, 6).long(), **more).logits)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert drawn and not torch.equal(found[0], found[2])
    assert np.isfinite(found[0].detach().numpy()).all()
