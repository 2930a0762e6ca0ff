"""Importance, against finite differences in float64, with attention held and free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from fairseq_adv.core.sites import Replace
from fairseq_adv.games.sites import attention as site
from fairseq_adv.games.sites.attention import AttentionScores, Layers
from recipes.attention.agreement import FLAT_ATTENTION, TARGET_WORD, Explained, agreement
from recipes.attention.importance import explain, explain_classes, explain_translations
from recipes.models.model import Loaded
from recipes.support.errors import RecipeError
from tests.methods.method_table import MODELS
from tests.support import sentences, tiny

STEP = 1e-5
LENGTHS = ((7, 5), (4, 8), (3, 3))


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def dictionary() -> Dictionary:
    """As many symbols as the tiny models have, every second of which goes on."""
    found = Dictionary()
    for number in range(tiny.WORDS):
        found.add_symbol(f"w{number}" + ("@@" if number % 2 else ""))
    return found


def loaded(model: Any, task: Any) -> Loaded:
    words = dictionary()
    task = SimpleNamespace(
        cfg=task.cfg,
        source_dictionary=words,
        target_dictionary=words,
        label_dictionary=getattr(task, "label_dictionary", None),
    )
    return Loaded(model.double().eval(), task, cuda=False)


def words_by_hand(tokens: list[int]) -> list[list[int]]:
    """Places of the tokens of each word, by a loop; <unk> is a word, or the end of one."""
    words: list[list[int]] = []
    goes_on = False
    for place, token in enumerate(tokens):
        if token < 3:  # <s>, <pad>, </s>
            goes_on = False
            continue
        if goes_on:
            words[-1].append(place)
        else:
            words.append([place])
        goes_on = token > 3 and (token - 4) % 2 == 1
    return words


@contextmanager
def longer(model: Any, row: int, places: list[int], factor: float) -> Iterator[None]:
    """A block in which the source embeddings of one word of one sentence are multiplied."""
    encoder = getattr(model.encoder, "sentence_encoder", model.encoder)

    def multiply(_: Any, __: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[row, places] *= factor
        return changed

    inside = False  # one table may serve both sides

    def enter(*_: Any) -> None:
        nonlocal inside
        inside = True

    def leave(*_: Any) -> None:
        nonlocal inside
        inside = False

    def hook(*args: Any) -> Tensor | None:
        return multiply(*args) if inside else None

    with ExitStack() as hooks:
        hooks.callback(encoder.register_forward_pre_hook(enter).remove)
        hooks.callback(encoder.register_forward_hook(leave).remove)
        hooks.callback(encoder.embed_tokens.register_forward_hook(hook).remove)
        yield


def clean_scores(model: Any, sample: dict[str, Any], run: Callable[[], Any]) -> Tensor:
    """The attention scores of a pass, as `Replace` takes them, read from inside of its softmax."""
    scores = AttentionScores(model, sample)
    seen: dict[tuple[int, int], Tensor] = {}

    def watch(layer: int, found: Tensor, first: int) -> Tensor:
        seen[layer, first] = found
        return found

    with torch.no_grad(), scores.open(), site.layers_of(model).changed(watch):
        run()
    by_layer = [
        torch.cat([seen[key] for key in sorted(seen) if key[0] == layer], 2)
        for layer in sorted({layer for layer, _ in seen})
    ]
    return torch.stack(by_layer, 1).permute(0, 3, 1, 2, 4).flatten(2)


def derivatives(
    model: Any,
    sample: dict[str, Any],
    run: Callable[[], Tensor],
    row: int,
    words: list[list[int]],
    held: bool,
) -> Tensor:
    """Central differences of what a pass gives by the length of each word, W x the pass' shape."""
    with torch.no_grad():
        scores = AttentionScores(model, sample)
        values = clean_scores(model, sample, run)
        found = []
        for places in words:
            ends = []
            for factor in (1 + STEP, 1 - STEP):
                with ExitStack() as blocks:
                    blocks.enter_context(longer(model, row, places, factor))
                    blocks.enter_context(scores.open())
                    if held:
                        blocks.enter_context(scores.apply(Replace(values)))
                    ends.append(run())
            found.append((ends[0] - ends[1]) / (2 * STEP))
        return torch.stack(found)


TRANSLATORS = {
    "transformer": partial(tiny.shared_transformer, decoder_layers=2),
    "lstm": tiny.lstm,
    "convolutional": tiny.convolutional,
}


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_of_a_translation_it_is_the_derivative_by_the_length_of_a_word(
    name: str, held: bool
) -> None:
    """Of the log-probability of all subwords of a target word."""
    model = TRANSLATORS[name]()
    of = loaded(model, tiny.task())
    sample = tiny.batch(LENGTHS)
    net_input, target = sample["net_input"], sample["target"]

    def run() -> Tensor:
        found = model.get_normalized_probs(model(**net_input), True)
        return found.gather(2, target[:, :, None]).squeeze(2)

    explained = list(explain_translations(of, sample, held))
    assert [one.number for one in explained] == sample["id"].tolist()
    tokens = AttentionScores(model, sample)
    looked_up = site.SourceEmbeddings(model, sample).looked_up[0]
    weights = _weights(model, sample, tokens)
    merged = [0, 0]
    for row, one in enumerate(explained):
        words = words_by_hand(looked_up[row].tolist())
        outputs = words_by_hand(target[row].tolist())
        for side, groups in enumerate((words, outputs)):
            merged[side] += any(len(places) > 1 for places in groups)
        found = derivatives(model, sample, run, row, words, held)  # W x B x T
        assert (len(one.words), len(one.said)) == (len(words), len(outputs))
        for output, places in enumerate(outputs):
            expected = found[:, row, places].sum(1).abs()
            np.testing.assert_allclose(
                one.importance[output], (expected / expected.sum()).numpy(), rtol=1e-6, atol=1e-9
            )
            by_hand = [
                float(np.mean([sum(weights[row, t, s] for s in word) for t in places]))
                for word in words
            ]
            np.testing.assert_allclose(one.attention[output], by_hand, rtol=1e-9)
    assert min(merged) > 0


def _weights(model: Any, sample: dict[str, Any], scores: AttentionScores) -> np.ndarray:
    """The mean over layers and heads, B x T x S, by hand from the scores of a pass."""
    values = clean_scores(model, sample, lambda: model(**sample["net_input"]))
    keys = site.SourceEmbeddings(model, sample).mask.squeeze(-1)
    shape = (*values.shape[:2], -1, keys.size(1))
    masked = values.view(shape).masked_fill(~keys[:, None, None], -torch.inf)
    return np.asarray(masked.softmax(-1).mean(2).numpy())


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
@pytest.mark.parametrize("build", [sentences.roberta, sentences.bert])
def test_of_a_class_it_is_the_derivative_by_the_length_of_a_word(
    build: Callable[..., Any], held: bool
) -> None:
    """Of the log-probability, and of the probability: their ratio is the same for all words."""
    model = build(outputs=3, encoder_layers=2)
    of = loaded(model, sentences.task(3))
    sample = sentences.batch(((9, 0), (6, 0), (4, 0)), outputs=3)

    def run() -> Tensor:
        logits = model(
            **sample["net_input"],
            features_only=True,
            classification_head_name=sentences.HEAD,
        )[0]
        return torch.cat([logits.log_softmax(-1), logits.softmax(-1)], 1)

    explained = list(explain_classes(of, sample, held))
    with torch.no_grad():
        classes = run()[:, :3].argmax(1).tolist()
    weights = _weights(model, sample, AttentionScores(model, sample))
    tokens = sample["net_input"]["src_tokens"]
    for row, one in enumerate(explained):
        words = words_by_hand(tokens[row].tolist())
        found = derivatives(model, sample, run, row, words, held)[:, row]
        for column in (classes[row], 3 + classes[row]):
            expected = found[:, column].abs()
            np.testing.assert_allclose(
                one.importance[0], (expected / expected.sum()).numpy(), rtol=1e-6, atol=1e-9
            )
        by_hand = [sum(weights[row, 0, place] for place in word) for word in words]
        np.testing.assert_allclose(one.attention[0], by_hand, rtol=1e-9)
        assert (one.said, one.label) == ([str(classes[row])], str(sample["target"][row].item()))


class Additive(nn.Module):
    """Jain and Wallace's classifier in small: words, additive attention, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Any = nn.Module()
        self.encoder.dictionary = dictionary()
        self.encoder.embed_tokens = nn.Embedding(len(dictionary()), 6, padding_idx=1)
        self.encoder.forward = lambda src_tokens, *_: self.encoder.embed_tokens(src_tokens)
        self.key, self.score, self.out = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(6, 2)
        self.classification_heads = nn.ModuleDict()
        self.change: Any = lambda scores: scores

    def forward(self, src_tokens: Tensor, **_: Any) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.encoder(src_tokens)
        is_word = src_tokens.ge(4)
        scores = self.change(self.score(torch.tanh(self.key(x))).squeeze(-1))
        weights = scores.masked_fill(~is_word, -torch.inf).softmax(-1)
        return self.out((weights.unsqueeze(-1) * torch.tanh(x)).sum(1)), {"attention": weights}


class OneQuery(Layers):
    """Its scores: one place for each sentence."""

    queries = site.SourceEmbeddings

    @contextmanager
    def changed(self, change: Any) -> Iterator[None]:
        (model,) = self.modules
        model.change = lambda scores: change(0, scores[:, None, None], 0)[:, 0, 0]
        yield
        model.change = lambda scores: scores


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
def test_of_a_classifier_with_one_query(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it calls its `attention` is what is read of it."""
    torch.manual_seed(2)
    model: Any = Additive()
    monkeypatch.setattr(site, "layers_of", lambda model: OneQuery([model]))
    monkeypatch.setattr(
        AttentionScores,
        "mask",
        property(lambda self: self.sample["net_input"]["src_tokens"].ge(4)[:, None]),
    )
    of = loaded(model, sentences.task(2))
    sample = sentences.batch(((9, 0), (6, 0)), outputs=2)
    with torch.no_grad():
        logits, extra = model(**sample["net_input"])
    tokens = sample["net_input"]["src_tokens"]
    for row, one in enumerate(explain_classes(of, sample, held)):
        words = words_by_hand(tokens[row].tolist())
        by_hand = [float(extra["attention"][row, word].sum()) for word in words]
        np.testing.assert_allclose(one.attention[0], by_hand, rtol=1e-9)
        assert one.attention.sum() == pytest.approx(1)
        run = lambda: model(**sample["net_input"])[0].log_softmax(-1)  # noqa: E731
        predicted = int(logits[row].argmax())
        found = derivatives(model, sample, run, row, words, held)[:, row, predicted].abs()
        np.testing.assert_allclose(
            one.importance[0], (found / found.sum()).numpy(), rtol=1e-6, atol=1e-9
        )


def test_a_word_that_changes_nothing_has_no_importance() -> None:
    model = sentences.bert(outputs=2)
    with torch.no_grad():
        model.encoder.sentence_encoder.embed_tokens.weight.zero_()
    sample = sentences.batch(((5, 0),))
    (one,) = explain_classes(loaded(model, sentences.task(2)), sample, True)
    assert one.importance.tolist() == [[0.0] * len(one.words)]
    assert one.correlation is None


def test_attention_that_is_the_same_to_all_words_has_no_correlation() -> None:
    model = tiny.transformer()
    with torch.no_grad():
        attention = model.decoder.layers[0].encoder_attn
        attention.q_proj.weight.zero_()
        attention.q_proj.bias.zero_()
    of = Loaded(model.float().eval(), tiny.task(), cuda=False)
    explained = list(explain_translations(of, tiny.batch(LENGTHS), True))
    words = sum(target - 1 for _, target in LENGTHS)
    assert agreement(explained, TARGET_WORD).undefined[FLAT_ATTENTION] == words
    np.testing.assert_allclose(explained[0].attention, 1 / LENGTHS[0][0], rtol=1e-6)


def test_a_model_without_attention_has_none() -> None:
    model = MODELS["lstm"]()
    model.decoder.attention = None
    with pytest.raises(RecipeError, match=r"^mine: LSTMModel has no attention"):
        explain(loaded(model, tiny.task()), "test", "mine", held=True)


def test_what_is_explained_is_of_the_sentence_alone() -> None:
    """Whatever it is batched with."""
    of = loaded(tiny.transformer(), tiny.task())
    together = list(explain_translations(of, tiny.batch(LENGTHS), True))

    def alone(row: int) -> Explained:
        sample = tiny.batch(LENGTHS)
        source, target = LENGTHS[row]
        net_input = sample["net_input"]
        one = {
            "net_input": {
                "src_tokens": net_input["src_tokens"][row : row + 1, -source:],  # padded left
                "src_lengths": net_input["src_lengths"][row : row + 1],
                "prev_output_tokens": net_input["prev_output_tokens"][row : row + 1, :target],
            },
            "target": sample["target"][row : row + 1, :target],
            "id": sample["id"][row : row + 1],
        }
        return next(iter(explain_translations(of, one, True)))

    for row, one in enumerate(together):
        other = alone(row)
        assert (one.words, one.said) == (other.words, other.said)
        np.testing.assert_allclose(one.attention, other.attention, rtol=1e-9)
        np.testing.assert_allclose(one.importance, other.importance, rtol=1e-8, atol=1e-12)
