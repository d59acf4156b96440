"""Prompt tuning: a plain loop says the same, only the prompt changes, the best on dev is kept, failures are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import skillneurons as sn
from skillneurons.tuning import train as training
from skillneurons.tuning import tune as tuning
from skillneurons.tuning.config import PRESETS
from skillneurons.tuning.evaluate import Evaluation
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Evaluated, initial

from .backbones import without_dropout
from .families import FAMILIES, tiny
from .makings import easy, make

KINDS = ("bert", "llama", "t5")
SMALL: dict[str, Any] = {"trials": 1, "positions": 3, "lr": 0.05, "init_std": 0.5, "steps": 6, "evaluate_every": 2}


def loaded(name: str = "bert", dropout: bool = True) -> sn.Backbone:
    model, tokenizer = tiny(name)
    if not dropout:
        without_dropout(model)
    return sn.load_model(model, tokenizer=tokenizer)


def embeddings(backbone: sn.Backbone) -> Tensor:
    model: Any = backbone.model
    return model.get_input_embeddings().weight


def logits(name: str, backbone: sn.Backbone, text: str, prompt: Tensor) -> Tensor:
    """One sample's logits over the vocabulary at the answer token, from the library's own model."""
    model: Any = backbone.model
    tokenizer: Any = backbone.tokenizer
    embed = model.get_input_embeddings()
    words = embed(torch.tensor(tokenizer(text)["input_ids"]))
    kind = FAMILIES[name].kind
    if kind == "masked":
        mask = embed(torch.tensor([tokenizer.mask_token_id]))
        return model(inputs_embeds=torch.cat([mask, prompt, words])[None]).logits[0, 0]
    if kind == "causal":
        return model(inputs_embeds=torch.cat([words, prompt])[None]).logits[0, -1]
    start = torch.tensor([[model.config.decoder_start_token_id]])
    return model(inputs_embeds=torch.cat([prompt, words])[None], decoder_input_ids=start).logits[0, 0]


def tokens(backbone: sn.Backbone, task: sn.Task) -> Tensor:
    """The label words' tokens."""
    tokenizer: Any = backbone.tokenizer
    return torch.tensor([tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in task.words.values()])[
        :, 0
    ]


def loss_of(name: str, backbone: sn.Backbone, task: sn.Task, prompt: Tensor, objective: str) -> Tensor:
    """The mean over all training samples of minus the log likelihood of the right word."""
    words = tokens(backbone, task)
    found = []
    for row in task.train.rows:
        seen = logits(name, backbone, row["text"], prompt)
        if objective == "words":
            found.append(-seen[words].log_softmax(0)[row["label"]])
        else:
            found.append(-seen.log_softmax(0)[words[row["label"]]])
    return torch.stack(found).mean()


@pytest.mark.parametrize("objective", ["words", "vocabulary"])
@pytest.mark.parametrize("name", KINDS)
def test_a_plain_loop_tunes_the_same_prompt(name: str, objective: Any) -> None:
    """Adam, clipped gradient, warm-up and decay written out; every step sees all samples, so order is out of play."""
    backbone, task = loaded(name, dropout=False), make("single", train=10, dev=8, test=4)
    steps, lr, clip = 5, 0.05, 0.2
    [prompt] = sn.tune(
        backbone, task, trials=1, positions=3, init_std=0.5, batch=10, epochs=steps, lr=lr, clip=clip, warmup=0.4,
        evaluate_every=steps, objective=objective,
    )  # fmt: skip
    own = initial(backbone, sn.TuneConfig.make(positions=3, init_std=0.5), 0).clone()
    first, second = torch.zeros_like(own), torch.zeros_like(own)
    seen = []
    for step in range(1, steps + 1):
        own.requires_grad_()
        loss = loss_of(name, backbone, task, own, objective)
        [gradient] = torch.autograd.grad(loss, own)
        seen.append(loss.item())
        gradient = gradient * min(1.0, clip / float(gradient.norm()))
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        rate = lr * (step / 2 if step <= 2 else (steps - step + 1) / (steps - 2))  # 0.4 of 5 steps rise
        move = (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-6)
        own = own.detach() - rate * move
    assert prompt.history[0].loss == pytest.approx(np.mean(seen), abs=1e-5)
    assert torch.allclose(prompt.embedding, own, atol=1e-3)
    start = initial(backbone, sn.TuneConfig.make(positions=3, init_std=0.5), 0)
    assert (prompt.embedding - start).abs().mean() > 0.05


@pytest.mark.parametrize("name", ["deberta-v2", "gpt2", "t5-gated"])
def test_an_evaluation_takes_the_likeliest_label_word(name: str) -> None:
    backbone, task = loaded(name), make("three")
    [prompt] = sn.tune(backbone, task, prompt="random", trials=1, positions=3, init_std=0.5, seed=1)
    words = tokens(backbone, task)
    with torch.no_grad():
        expected = [
            int(logits(name, backbone, row["text"], prompt.embedding)[words].argmax()) for row in task.test.rows
        ]
    found = sn.evaluate(backbone, task, prompt)
    assert found.predicted.tolist() == expected and found.labels.tolist() == list(task.test.rows["label"])
    assert len(set(expected)) > 1  # or a constant would do
    assert found.accuracy == np.mean(np.array(expected) == task.test.rows["label"])
    assert sn.evaluate(backbone, task, prompt, "dev").accuracy == prompt.accuracy


@pytest.mark.parametrize("name", ["roberta", "opt", "bart"])
def test_only_the_prompt_changes(name: str) -> None:
    backbone = loaded(name)
    before = {path: weight.clone() for path, weight in backbone.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    [prompt] = sn.tune(backbone, make("single"), **SMALL)
    assert torch.equal(state, torch.get_rng_state())
    for path, weight in backbone.model.state_dict().items():
        assert torch.equal(weight, before[path]), path
    assert not backbone.model.training
    assert all(weight.grad is None and not weight.requires_grad for weight in backbone.model.parameters())
    assert not prompt.embedding.requires_grad and prompt.embedding.dtype == torch.float32


def test_the_seed_and_the_trial_decide_everything() -> None:
    backbone, task = loaded(), make("single")
    options = SMALL | {"trials": 2}
    one, other = (sn.tune(backbone, task, seed=4, **options) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.embedding, b.embedding) and a.history == b.history
    assert not torch.equal(one[0].embedding, one[1].embedding)
    assert not torch.equal(one[0].embedding, sn.tune(backbone, task, seed=5, **SMALL)[0].embedding)


def test_a_new_prompt_is_drawn_at_the_scale_that_is_asked_for() -> None:
    backbone = loaded("gpt2")
    for std, expected in (
        (0.03, 0.03),
        ("auto", float(embeddings(backbone).pow(2).mean().sqrt())),
    ):
        config = sn.TuneConfig.make(positions=127, init_std=std)
        drawn = initial(backbone, config, 0)
        assert drawn.shape == (127, backbone.embedding_size)
        # 3 048 numbers: their spread is off by 1.3 %, their mean by 1.8 % of it
        assert float(drawn.std()) == pytest.approx(expected, rel=0.06)
        assert abs(float(drawn.mean())) < 0.08 * expected
        assert not torch.equal(drawn, initial(backbone, config, 1))


@contextlib.contextmanager
def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> Iterator[list[Tensor]]:
    """Evaluations on dev that give these accuracies; the list collects the prompts that were evaluated."""
    seen: list[Tensor] = []

    def evaluation(inputs: Inputs, prompt: Tensor, *_: object) -> Any:
        seen.append(prompt.detach().clone())
        return type("Evaluation", (), {"accuracy": accuracies[len(seen) - 1]})

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate_inputs", evaluation)
        yield seen


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([0.5, 0.7, 0.6], 1), ([0.5, 0.7, 0.7], 2), ([0.6, 0.6, 0.5], 1), ([0.0, 0.0, 0.0], 2), ([0.9, 0.1, 0.2], 0)],
)
def test_the_best_prompt_on_dev_is_kept_and_a_tie_is_a_gain(
    monkeypatch: pytest.MonkeyPatch, accuracies: list[float], best: int
) -> None:
    with scripted(monkeypatch, accuracies) as seen:
        [prompt] = sn.tune(loaded(), make("single"), **SMALL)
    assert torch.equal(prompt.embedding, seen[best]) and prompt.accuracy == accuracies[best]
    assert [point.accuracy for point in prompt.history] == accuracies
    assert [point.step for point in prompt.history] == [2, 4, 6]


@pytest.mark.parametrize(
    ("accuracies", "evaluations"),
    [([0.6, 0.5, 0.5, 0.5], 4), ([0.6, 0.5, 0.6, 0.5, 0.5, 0.5], 6), ([0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5], 7)],
)
def test_a_trial_stops_when_its_patience_is_at_an_end(
    monkeypatch: pytest.MonkeyPatch, accuracies: list[float], evaluations: int
) -> None:
    with scripted(monkeypatch, [*accuracies, *[0.0] * 20]) as seen:
        [prompt] = sn.tune(loaded(), make("single"), **SMALL | {"patience": 3, "steps": 100, "epochs": 50})
    assert len(seen) == len(prompt.history) == evaluations
    assert prompt.accuracy == max(accuracies)


def test_the_recorded_accuracy_is_that_of_the_kept_prompt() -> None:
    backbone, task = loaded("opt"), easy()
    options: Any = {"positions": 4, "lr": 0.1, "init_std": "auto", "batch": 16, "evaluate_every": 3, "trials": 2}
    for prompt in sn.tune(backbone, task, dev_limit=30, **options):
        assert prompt.accuracy == max(point.accuracy for point in prompt.history)
        found = sn.evaluate(backbone, task.limited(dev=30), prompt, "dev")
        assert found.accuracy == prompt.accuracy and prompt.samples == len(found.labels) == 30
        assert prompt.majority == np.bincount(found.labels).max() / 30


def test_rates_rise_and_fall_as_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step: Callable[..., Any] = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *given: Any) -> Any:
        [group] = self.param_groups
        rates.append(group["lr"])
        assert group["betas"] == (0.9, 0.98) and group["eps"] == 1e-6 and group["weight_decay"] == 0
        assert [own.shape for own in group["params"]] == [(3, 24)]
        return step(self, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    task = make("single", train=50)
    sn.tune(loaded(), task, **SMALL | {"steps": None, "epochs": 2, "batch": 8, "warmup": 0.25, "evaluate_every": 14})
    total, rising = 14, 4  # two epochs of 7 steps; a quarter of them is 3.5
    expected = [0.05 * s / rising if s <= rising else 0.05 * (total - s + 1) / (total - rising) for s in range(1, 15)]
    assert rates == pytest.approx(expected, rel=1e-12) and max(rates) == 0.05 and rates[-1] == pytest.approx(0.005)
    rates.clear()
    sn.tune(loaded(), task, **SMALL | {"steps": 5})  # 0.6 % of so few is less than a step: the first one is it
    assert rates == pytest.approx([0.05, 0.05, 0.0375, 0.025, 0.0125])


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_prompts_gradient_is_clipped(monkeypatch: pytest.MonkeyPatch, clip: float) -> None:
    backbone, task = loaded(dropout=False), make("single", train=8)
    norms: list[float] = []

    def watched(self: torch.optim.Adam, *_: Any) -> None:
        norms.append(float(self.param_groups[0]["params"][0].grad.norm()))

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    sn.tune(backbone, task, **SMALL | {"clip": clip, "steps": 1})
    start = initial(backbone, sn.TuneConfig.make(positions=3, init_std=0.5), 0).requires_grad_()
    [gradient] = torch.autograd.grad(loss_of("bert", backbone, task, start, "words"), start)
    assert 1e-3 < float(gradient.norm()) < 1e3
    assert norms == pytest.approx([min(clip, float(gradient.norm()))], rel=1e-4)


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    gradients = training._gradients

    def watched(states: Any, config: Any, chosen: Any) -> list[float]:
        seen.append([int(index) for [own] in [chosen] for index in own])
        return gradients(states, config, chosen)

    monkeypatch.setattr(training, "_gradients", watched)
    options = SMALL | {"steps": None, "epochs": 2, "trials": 2, "batch": 8}
    sn.tune(loaded(), make("single", train=30), **options)
    assert [len(own) for own in seen] == [8, 8, 8, 6] * 4
    epochs = [[*chain.from_iterable(seen[start : start + 4])] for start in range(0, 16, 4)]
    assert all(sorted(epoch) == [*range(30)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_dropout_is_on_in_steps_and_off_in_evaluations() -> None:
    backbone = loaded()
    modes: list[tuple[bool, bool]] = []
    hook = backbone.model.register_forward_pre_hook(
        lambda module, _: modes.append((torch.is_grad_enabled(), all(part.training for part in module.modules())))
    )
    sn.tune(backbone, make("single"), **SMALL)
    hook.remove()
    assert {(True, True), (False, False)} == set(modes)
    assert sum(training for training, _ in modes) == 6


def test_the_model_is_itself_again_after_an_error() -> None:
    backbone = loaded()
    state = torch.get_rng_state()
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    hook = backbone.model.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        sn.tune(backbone, make("single"), **SMALL | {"evaluate_every": 6})
    hook.remove()
    assert not any(part.training for part in backbone.model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_numbers_that_run_away_are_told() -> None:
    backbone = loaded()
    with pytest.raises(
        sn.SkillNeuronsError, match=r"trial 1 lost them at step \d, with a learning rate of 1e\+30.*--lr"
    ):
        sn.tune(backbone, make("single"), **SMALL | {"lr": 1e30, "objective": "vocabulary"})
    assert not backbone.model.training


def test_the_rate_with_the_lowest_loss_is_taken_for_all_trials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, task = loaded(), make("single")
    tried: list[tuple[int, float]] = []
    ends = [0.7, float("nan"), 0.4, 0.5, 0.3, 0.2]  # four rates, then the best two of them, the better one first

    def losses(inputs: Inputs, config: Any, trial: int, rate: float, steps: int) -> list[float]:
        tried.append((steps, rate))
        return [5.0] * (steps // 2) + [ends[len(tried) - 1]] * (steps - steps // 2)

    monkeypatch.setattr(tuning, "losses", losses)
    prompts = sn.tune(backbone, task, **SMALL | {"lr": "auto", "trials": 2})
    rates = [rate for _, rate in tried]
    assert [steps for steps, _ in tried] == [20] * 4 + [80] * 2
    assert rates[:4] == sorted(rates[:4]) and rates[4:] == [rates[2], rates[3]]
    assert [prompt.lr for prompt in prompts] == [rates[3]] * 2
    assert f"learning rate {rates[3]:g}" in capsys.readouterr().err
    ends[:] = [float("inf")] * 6
    tried.clear()
    with pytest.raises(sn.SkillNeuronsError, match="no learning rate gives a finite loss"):
        sn.tune(backbone, task, **SMALL | {"lr": "auto"})


def test_the_search_for_a_rate_is_what_it_says_and_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    backbone, task = loaded("qwen3"), easy()
    inputs, config = Inputs(backbone, task, 4), sn.TuneConfig.make(positions=4, lr="auto", init_std="auto")
    rates = [float(f"{share * backbone.embedding_scale:.1g}") for share in tuning.RATES]
    (few, kept), (many, _) = tuning.ROUNDS

    def end(rate: float, steps: int) -> float:
        return float(np.mean(training.losses(inputs, config, 0, rate, steps)[steps // 2 :]))

    best = min(sorted(rates, key=lambda rate: end(rate, few))[:kept], key=lambda rate: end(rate, many))
    assert [tuning.choose_rate(inputs, config) for _ in range(2)] == [best] * 2
    assert f"{end(best, many):.3f} at {best:g}" in capsys.readouterr().err


def test_hard_prompts_are_the_embeddings_of_their_words() -> None:
    backbone = loaded("roberta")
    texts = ("the film is", "it was very")
    task = replace(make("single"), prompts=texts)
    prompts = sn.tune(backbone, task, prompt="hard", trials=5)
    assert [prompt.text for prompt in prompts] == [*texts]  # alike in every trial: no more trials than prompts
    for trial, prompt in enumerate(prompts):
        ids = backbone.tokenizer(texts[trial], add_special_tokens=False)["input_ids"]
        assert torch.equal(prompt.embedding, embeddings(backbone)[ids])
        assert (prompt.kind, prompt.trial, prompt.lr, prompt.history) == ("hard", trial, None, ())
        assert prompt.accuracy == sn.evaluate(backbone, task, prompt, "dev").accuracy
    assert [prompt.text for prompt in sn.tune(backbone, task, prompt="hard", trials=1)] == [texts[0]]


def test_a_task_without_hard_prompts_gets_one_of_its_words() -> None:
    [two] = sn.tune(loaded("gpt2"), make("single"), prompt="hard")
    [three] = sn.tune(loaded("gpt2"), make("three"), prompt="hard")
    assert two.text == "It is either negative or positive."
    assert three.text == "It is either negative, neutral or positive."
    with pytest.raises(sn.SkillNeuronsError, match="at least one token; given: ''"):
        sn.tune(loaded("gpt2"), replace(make("single"), prompts=("",)), prompt="hard")


def test_random_prompts_stay_as_they_were_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    backbone, task = loaded("t5"), make("single")
    prompts = sn.tune(backbone, task, prompt="random", trials=3, positions=4, seed=6)
    config = sn.TuneConfig.make(positions=4, seed=6)
    for trial, prompt in enumerate(prompts):
        assert torch.equal(prompt.embedding, initial(backbone, config, trial))
        assert (prompt.kind, prompt.lr, prompt.history, prompt.text) == ("random", None, (), None)
        assert prompt.accuracy == sn.evaluate(backbone, task, prompt, "dev").accuracy
    assert capsys.readouterr().err == ""  # nobody expects an untuned prompt to beat the majority


@pytest.mark.parametrize(
    ("accuracy", "majority", "samples", "worth"),
    [
        (0.53, 0.50, 10_000, True),
        (0.53, 0.50, 2000, False),  # 2.7 standard errors
        (0.515, 0.50, 100_000, False),  # less than two points
        (0.65, 0.50, 100, True),
        (0.64, 0.50, 100, False),
        (0.50, 0.50, 100, False),
        (0.30, 0.50, 100, False),
        (1.0, 1.0, 100, False),
    ],
)
def test_a_prompt_is_worth_ranking_by_two_points_and_three_standard_errors(
    accuracy: float, majority: float, samples: int, worth: bool
) -> None:
    prompt = sn.Prompt(torch.zeros(1, 1), "soft", 0, accuracy, majority, samples)
    assert prompt.worth_ranking is worth
    if majority < 1:
        assert prompt.margin == pytest.approx((accuracy - majority) / (majority * (1 - majority) / samples) ** 0.5)


def test_a_prompt_that_learned_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(monkeypatch, [0.5, 0.5, 0.55]):
        sn.tune(loaded(), make("single"), **SMALL)
    told = capsys.readouterr().err
    assert "trial 1: the prompt did not beat the majority label by a margin worth ranking on" in told
    assert "accuracy 0.550" in told and "--lr auto" in told
    with scripted(monkeypatch, [0.5, 1.0, 0.5]):
        sn.tune(loaded(), make("single"), **SMALL)
    assert "majority" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["deberta-v2", "llama", "t5"])
def test_a_tuned_prompt_learns_what_can_be_learned(name: str) -> None:
    backbone, task = loaded(name), easy()
    for prompt in sn.tune(backbone, task, preset="quick", trials=2, positions=4, epochs=8, evaluate_every=12):
        assert prompt.worth_ranking
        assert sn.evaluate(backbone, task, prompt).accuracy > task.majority("test") + 0.2
        assert prompt.history[-1].loss < prompt.history[0].loss


def test_presets_are_the_papers_and_a_quick_one() -> None:
    paper = sn.TuneConfig.preset("paper")
    assert paper == sn.TuneConfig()
    assert (paper.positions, paper.init_std, paper.lr, paper.batch, paper.epochs) == (127, 0.03, 1e-3, 8, 4)
    assert (paper.evaluate_every, paper.patience, paper.trials, paper.objective) == (2000, 6, 5, "words")
    assert (paper.clip, paper.warmup) == (1.0, 0.006)
    quick = sn.TuneConfig.preset("quick", positions=7)
    assert quick.positions == 7 and quick.lr == "auto" and quick.steps == PRESETS["quick"]["steps"]
    with pytest.raises(sn.SkillNeuronsError, match="one of paper, quick; given: 'fast'"):
        sn.TuneConfig.preset("fast")
    with pytest.raises(sn.SkillNeuronsError) as error:
        sn.tune(loaded(), make("single"), position=3, trials=0, lr="fast")
    assert all(f"- {name}" in str(error.value) for name in ("position", "trials", "lr"))


def test_a_prompt_comes_back_from_its_record() -> None:
    prompt = sn.Prompt(torch.ones(2, 3), "soft", 1, 0.7, 0.5, 40, 17, 0.01, (Evaluated(2, 0.5, 0.7),))
    again = sn.Prompt.from_record(prompt.embedding, prompt.record())
    assert again.record() == prompt.record() and again.history == prompt.history
    assert "embedding" not in prompt.record() and repr(prompt).startswith("Prompt(soft, trial 1, 2 positions")
    assert repr(Evaluation(np.array([1, 0]), np.array([1, 1]))) == "Evaluation(accuracy 0.5000 of 2 samples)"
