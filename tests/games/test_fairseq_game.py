"""The game over fairseq's models: masks, losses and gradients that fairseq itself confirms."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models.transformer import TransformerDecoder

from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.games.embedding_hooks import UnsupportedModel
from fairseq_adv.games.fairseq_game import FairseqGame
from tests.support import tiny

MODELS = [tiny.transformer, tiny.shared_transformer, tiny.lstm, tiny.convolutional]


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_clean_loss_and_gradient_are_fairseqs(build: Any, smoothing: float, prefix: int) -> None:
    """To the last digits of float64; float32 adds up in another order."""
    with tiny.float64_throughout():
        model, sample = build(dropout=0.3).double(), tiny.batch()
        stock = LabelSmoothedCrossEntropyCriterion(tiny.task(), False, smoothing, prefix)
        torch.manual_seed(1)
        loss, _, log = stock(model, sample)
        loss.backward()
        theirs = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        torch.manual_seed(1)
        options = {"label_smoothing": smoothing, "ignore_prefix_size": prefix}
        game = FairseqGame(model, sample, tiny.criterion(**options))
        task_loss = game.task_loss(game.clean())
        ours = evaluate(task_loss)
        ours.backward()
    close = partial(torch.testing.assert_close, rtol=1e-13, atol=1e-13)
    close(ours, loss)
    close(task_loss.nll, log["nll_loss"])
    for parameter, expected in zip(model.parameters(), theirs, strict=True):
        close(parameter.grad, expected)


@pytest.mark.parametrize("build", MODELS)
def test_predictions_are_fairseqs(build: Any) -> None:
    model, sample = build(), tiny.batch()
    with torch.no_grad():
        predictions = tiny.game(model, sample).clean().keep(probabilities=False)
        logits = model(**sample["net_input"])[0]
    expected = logits[sample["target"] != tiny.task().target_dictionary.pad()]
    torch.testing.assert_close(predictions.hidden, expected)


@pytest.mark.parametrize("build", MODELS)
def test_the_reference_s_predictions_are_constants(build: Any) -> None:
    reference, sample = build(), tiny.batch()
    game = FairseqGame(build(), sample, tiny.criterion("smart"), reference_model=reference)
    predictions = game.reference()
    assert not evaluate(game.task_loss(predictions)).requires_grad
    assert any(p.requires_grad for p in reference.parameters()), "of itself it is no constant"


def test_transformers_and_lstms_end_with_hidden_states() -> None:
    """And those whose last step is another than the usual projection, with logits."""

    def hidden(model: Any) -> bool:
        return tiny.game(model, tiny.batch()).clean().weight is not None

    assert hidden(tiny.transformer()) and hidden(tiny.shared_transformer()) and hidden(tiny.lstm())
    assert not hidden(tiny.convolutional())

    class Tempered(TransformerDecoder):
        def output_layer(self, features: torch.Tensor) -> torch.Tensor:
            return super().output_layer(features) / 2

    model = tiny.transformer()
    model.decoder.__class__ = Tempered
    assert not hidden(model)
    model = tiny.transformer()
    model.decoder.output_projection.register_forward_hook(lambda *_: None)
    assert not hidden(model)


@pytest.mark.parametrize("build", MODELS)
def test_dropout_masks_can_be_drawn_again(build: Any) -> None:
    model, sample = build(dropout=0.3), tiny.batch()
    game = tiny.game(model, sample)
    clean = game.clean().hidden
    nothing = {"source": game.zero_delta("source"), "target": game.zero_delta("target")}
    following = torch.get_rng_state()
    assert torch.equal(game.perturbed(nothing, game.clean_masks()).hidden, clean)
    assert torch.equal(torch.get_rng_state(), following), "replaying must not disturb what follows"
    first, second = RandomState.draw(), RandomState.draw()
    once = game.perturbed(nothing, first).hidden
    assert torch.equal(game.perturbed(nothing, first).hidden, once)
    assert not torch.equal(game.perturbed(nothing, second).hidden, once)
    assert not torch.equal(once, clean)


def test_masks_depend_on_torchs_seed_alone() -> None:
    def draws() -> torch.Tensor:
        with RandomState.draw().replay():
            return torch.rand(5)

    torch.manual_seed(4)
    first = draws(), draws()
    torch.manual_seed(4)
    again = draws(), draws()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_replay_restores_the_generator_after_an_exception() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), RandomState.capture().replay():
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("build", MODELS)
def test_padding_is_not_perturbed_nor_predicted(build: Any) -> None:
    model, sample = build(), tiny.batch(((5, 4), (3, 6)))
    game = tiny.game(model, sample)
    game.clean()
    assert game.non_pad("source").sum(1).tolist() == [5, 3]
    assert game.non_pad("target").sum(1).tolist() == [4, 6]
    assert game.sentences().tolist() == 4 * [0] + 6 * [1]
    assert game.zero_delta("source").shape == (2, 5, 8)


def test_a_prefix_that_the_loss_ignores_is_not_predicted() -> None:
    game = FairseqGame(tiny.transformer(), tiny.batch(), tiny.criterion(ignore_prefix_size=2))
    assert game.sentences().tolist() == 2 * [0] + 4 * [1] + [2]


def test_the_convolutional_encoder_learns_slowly_and_delta_gets_its_true_gradient() -> None:
    with tiny.float64_throughout():
        model, sample = tiny.convolutional().double(), tiny.batch()
        game = tiny.game(model, sample)
        game.clean()
        masks = RandomState.draw()
        size = len(game.sentences()), len(tiny.task().source_dictionary)
        cotangent = torch.randn(size, dtype=torch.float64)

        def value(delta: torch.Tensor) -> torch.Tensor:
            return (game.perturbed({"source": delta}, masks).hidden * cotangent).sum()

        delta = game.zero_delta("source").requires_grad_()
        value(delta).backward()
        ours = {name: p.grad for name, p in model.named_parameters()}
        direction = torch.randn_like(delta)
        h = 1e-5
        with torch.no_grad():
            expected = (value(h * direction) - value(-h * direction)) / (2 * h)
        assert delta.grad is not None
        torch.testing.assert_close((delta.grad * direction).sum(), expected, rtol=1e-8, atol=1e-8)
        # 1 / (2 * 2 attention layers), for a parameter of the encoder's layers
        weight = model.encoder.fc2.bias
        with torch.no_grad():
            weight[0] += h
            up = value(game.zero_delta("source"))
            weight[0] -= 2 * h
            down = value(game.zero_delta("source"))
        assert float(ours["encoder.fc2.bias"][0]) == pytest.approx(
            float(up - down) / (2 * h) / 4, rel=1e-6
        )


def test_models_that_cannot_be_perturbed_are_refused() -> None:
    model = tiny.transformer(adaptive_softmax_cutoff="5", adaptive_softmax_dropout=0.0)
    with pytest.raises(UnsupportedModel, match="--adaptive-softmax-cutoff"):
        tiny.game(model, tiny.batch())
    with pytest.raises(UnsupportedModel, match=r"encoder\.embed_tokens"):
        tiny.game(torch.nn.Linear(1, 1), tiny.batch())  # type: ignore[arg-type]
