"""The game over fairseq's models: masks, losses and gradients that fairseq itself confirms."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models.transformer import TransformerDecoder

from fairseq_adv.core.comparison.evaluation import evaluate
from fairseq_adv.core.comparison.predictions import Projected
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Add
from fairseq_adv.games.sites import UnsupportedModel
from fairseq_adv.games.translation import TranslationGame
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
        game = TranslationGame(model, sample, tiny.criterion(**options).plain)
        task_loss = game.task_loss(game.clean({}))
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
        predictions = tiny.game(model, sample).clean({}).keep({})
        logits = model(**sample["net_input"])[0]
    expected = logits[sample["target"] != tiny.task().target_dictionary.pad()]
    torch.testing.assert_close(predictions.vectors, expected)


@pytest.mark.parametrize("build", MODELS)
def test_detached_predictions_are_constants(build: Any) -> None:
    game = tiny.game(build(), tiny.batch())
    with torch.no_grad():
        predictions = game.clean({})
    assert not evaluate(game.task_loss(predictions.detached())).requires_grad
    assert any(part.requires_grad for part in game.clean({}).parts)


def test_the_reference_drops_nothing_out() -> None:
    """SMART's game on the average of earlier models."""
    criterion, sample = tiny.criterion("smart"), tiny.batch()
    average = tiny.transformer(dropout=0.5).train()
    known = {"reference_model": average, "memory": None}
    played = tiny.game(tiny.transformer(), sample)
    game = criterion.beside(played, **known)["reference"]
    assert torch.equal(game.clean({}).vectors, game.clean({}).vectors)
    assert tiny.criterion("smart", proximal_weight=0.0).beside(played, **known) == {}


def test_transformers_and_lstms_end_with_hidden_states() -> None:
    """And those whose last step is another than the usual projection, with logits."""

    def hidden(model: Any) -> bool:
        return isinstance(tiny.game(model, tiny.batch()).clean({}), Projected)

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
    masks = RandomState.capture()
    clean = game.clean({}).vectors
    nothing = {name: Add(game.sites[name].zero) for name in ("source", "target")}
    following = torch.get_rng_state()
    assert torch.equal(game.perturbed(nothing, masks).vectors, clean)
    assert torch.equal(torch.get_rng_state(), following), "replaying must not disturb what follows"
    first, second = RandomState.draw(), RandomState.draw()
    once = game.perturbed(nothing, first).vectors
    assert torch.equal(game.perturbed(nothing, first).vectors, once)
    assert not torch.equal(game.perturbed(nothing, second).vectors, once)
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
    assert game.sites["source"].mask.sum((1, 2)).tolist() == [5, 3]
    assert game.sites["target"].mask.sum((1, 2)).tolist() == [4, 6]
    assert game.sentences().tolist() == 4 * [0] + 6 * [1]
    assert game.sites["source"].zero.shape == (2, 5, 8)


def test_a_prefix_that_the_loss_ignores_is_not_predicted() -> None:
    plain = tiny.criterion(ignore_prefix_size=2).plain
    game = TranslationGame(tiny.transformer(), tiny.batch(), plain)
    assert game.sentences().tolist() == 2 * [0] + 4 * [1] + [2]


def test_the_convolutional_encoder_learns_slowly_and_delta_gets_its_true_gradient() -> None:
    with tiny.float64_throughout():
        model, sample = tiny.convolutional().double(), tiny.batch()
        game = tiny.game(model, sample)
        masks = RandomState.draw()
        size = len(game.sentences()), len(tiny.task().source_dictionary)
        cotangent = torch.randn(size, dtype=torch.float64)

        def value(delta: torch.Tensor) -> torch.Tensor:
            return (game.perturbed({"source": Add(delta)}, masks).vectors * cotangent).sum()

        delta = game.sites["source"].zero.clone().requires_grad_()
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
            up = value(game.sites["source"].zero)
            weight[0] -= 2 * h
            down = value(game.sites["source"].zero)
        assert float(ours["encoder.fc2.bias"][0]) == pytest.approx(
            float(up - down) / (2 * h) / 4, rel=1e-6
        )


def test_models_that_cannot_be_perturbed_are_refused() -> None:
    model = tiny.transformer(adaptive_softmax_cutoff="5", adaptive_softmax_dropout=0.0)
    with pytest.raises(UnsupportedModel, match="--adaptive-softmax-cutoff"):
        TranslationGame.check(model, ())
    with pytest.raises(UnsupportedModel, match=r"encoder\.embed_tokens"):
        TranslationGame.check(torch.nn.Linear(1, 1), ("source",))
