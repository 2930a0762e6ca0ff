"""Calibration, against a loop over tokens, scikit-learn, and examples worked out by hand."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from sklearn.calibration import calibration_curve

from recipes.evaluation import calibration
from recipes.evaluation.calibration import (
    BINS,
    CALIBRATION,
    DIAGRAM,
    calibrate,
    calibration_of,
    calibration_table,
    measure,
    plot_calibration,
    sums_of,
)
from recipes.models.model import batches, load, named
from recipes.support.errors import RecipeError
from recipes.support.files import read_json


def random_predictions(tokens: int, words: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all degrees of confidence, and what is right."""
    generator = torch.Generator().manual_seed(seed)
    scale = 6 * torch.rand(tokens, 1, generator=generator)
    logits = scale * torch.randn(tokens, words, generator=generator)
    right = torch.randint(words, (tokens,), generator=generator)
    right = torch.where(torch.rand(tokens, generator=generator) < 0.5, logits.argmax(-1), right)
    return logits.log_softmax(-1), right


def of(log_probabilities: torch.Tensor, right: torch.Tensor) -> calibration.Calibration:
    return calibration_of(sums_of(log_probabilities, right).tolist())


def test_an_example_worked_out_by_hand() -> None:
    """Four tokens of a vocabulary of three.

    Confidences 0.5 (right), 0.75 (wrong), 0.75 (right), 0.96 (right): the bins are (0.4, 0.5],
    (0.7, 0.8] twice and (0.9, 1]. ECE = (|1 - 0.5| + |1 - 1.5| + |1 - 0.96|) / 4 = 0.26.
    """
    probabilities = [[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [0.125, 0.75, 0.125]]
    probabilities += [[0.02, 0.02, 0.96]]
    found = of(torch.tensor(probabilities, dtype=torch.float64).log(), torch.tensor([0, 1, 1, 2]))
    assert found.samples == 4
    assert found.ece == pytest.approx(0.26)
    assert found.confidence == pytest.approx((0.5 + 0.75 + 0.75 + 0.96) / 4)
    assert found.accuracy == 0.75
    cross_entropy = (1 + 3 - math.log2(0.75) - math.log2(0.96)) / 4
    assert found.cross_entropy == pytest.approx(cross_entropy)
    entropies = [1.5, *2 * [-0.75 * math.log2(0.75) + 0.75]]
    entropies += [-0.96 * math.log2(0.96) - 0.04 * math.log2(0.02)]
    assert found.entropy == pytest.approx(sum(entropies) / 4)
    assert [one.samples for one in found.bins] == [0, 0, 0, 0, 1, 0, 0, 2, 0, 1]
    assert [(one.low, one.high) for one in found.bins] == [
        (m / 10, (m + 1) / 10) for m in range(10)
    ]
    assert (found.bins[7].confidence, found.bins[7].accuracy) == (0.75, 0.5)
    assert (found.bins[0].confidence, found.bins[0].accuracy) == (None, None)


def test_it_is_a_loop_over_tokens_in_batches_of_any_size() -> None:
    log_probabilities, right = random_predictions(500, 7)
    sums = sum(sums_of(log_probabilities[i : i + 37], right[i : i + 37]) for i in range(0, 500, 37))
    assert isinstance(sums, torch.Tensor)
    assert sums.dtype == torch.float64
    found = calibration_of(sums.tolist())
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    cross_entropy = entropy = 0.0
    for row, word in zip(log_probabilities.tolist(), right.tolist(), strict=True):
        predicted = max(range(7), key=row.__getitem__)
        confidence = math.exp(row[predicted])
        bin_ = next(m for m in range(BINS) if confidence <= (m + 1) / BINS or m == BINS - 1)
        members[bin_].append((confidence, predicted == word))
        cross_entropy -= row[word] / math.log(2)
        entropy -= sum(math.exp(value) * value for value in row) / math.log(2)
    ece = 0.0
    for one, expected in zip(found.bins, members, strict=True):
        assert one.samples == len(expected)
        if expected:
            confidence = sum(c for c, _ in expected) / len(expected)
            accuracy = sum(r for _, r in expected) / len(expected)
            assert one.confidence == pytest.approx(confidence, rel=1e-6)
            assert one.accuracy == pytest.approx(accuracy)
            ece += len(expected) / 500 * abs(accuracy - confidence)
    assert sum(bool(one) for one in members) >= 8
    assert found.ece == pytest.approx(ece, rel=1e-5)
    assert found.cross_entropy == pytest.approx(cross_entropy / 500, rel=1e-5)
    assert found.entropy == pytest.approx(entropy / 500, rel=1e-5)


def test_bins_are_those_of_scikit_learn() -> None:
    log_probabilities, right = random_predictions(2000, 5, seed=2)
    found = of(log_probabilities, right)
    best, predicted = log_probabilities.max(-1)
    theirs = calibration_curve(
        predicted.eq(right).numpy(), best.exp().double().numpy(), n_bins=BINS, strategy="uniform"
    )
    filled = [one for one in found.bins if one.samples]
    np.testing.assert_allclose([one.accuracy for one in filled], theirs[0], rtol=1e-12)
    np.testing.assert_allclose([one.confidence for one in filled], theirs[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.0, 0), (0.05, 0), (0.5, 4), (0.500001, 5), (0.7, 6), (0.95, 9), (1.0, 9)],
)
def test_a_bound_belongs_to_the_lower_bin_and_0_to_the_first(
    confidence: float, expected: int
) -> None:
    probability = torch.tensor([[confidence, 0.0]], dtype=torch.float64)
    sums = sums_of(probability.log(), torch.tensor([0]))
    assert sums[:, 0].nonzero().flatten().tolist() == [expected]


def test_a_certain_prediction_has_no_entropy() -> None:
    found = of(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([0]))
    assert (found.entropy, found.cross_entropy, found.ece) == (0, 0, 0)


class Oracle(torch.nn.Module):
    """Gives the right token probability 1/2, 1/4 or 3/4, the rest to one that is never right."""

    def __init__(self, task: Any, chances: tuple[float, ...]) -> None:
        super().__init__()
        self.words, self.wrong = len(task.target_dictionary), task.target_dictionary.unk()
        self.chances = torch.tensor(chances)
        self.given: list[torch.Tensor] = []

    def max_positions(self) -> tuple[int, int]:
        return (1000, 1000)

    def forward(self, src_tokens: Any, src_lengths: Any, prev_output_tokens: Any) -> Any:
        return prev_output_tokens

    def get_normalized_probs(self, output: Any, log_probs: bool, sample: Any) -> Any:
        target = sample["target"]
        chance = self.chances[target % len(self.chances)]
        probabilities = torch.zeros(*target.shape, self.words)
        probabilities.scatter_(2, target.unsqueeze(-1), chance.unsqueeze(-1))
        probabilities[..., self.wrong] = 1 - chance
        return probabilities.log()


def test_a_model_whose_probabilities_are_known(word_data: Path, word_model: Path) -> None:
    """Of tokens t with t % 3 = 1 it is right with confidence 3/4, of 2 wrong with 3/4, of 0 1/2."""
    loaded = load(word_data, word_model, cpu=True)
    oracle: Any = Oracle(loaded.task, (0.5, 0.75, 0.25))
    found = measure(SimpleNamespace(model=oracle, task=loaded.task, cuda=False), "test", "x")  # type: ignore[arg-type]
    lines = (word_data / "bpe" / "test.en").read_text("utf-8").splitlines()
    dictionary = loaded.task.target_dictionary
    tokens = [dictionary.index(word) for line in lines for word in line.split()]
    tokens += [dictionary.eos()] * len(lines)  # the end of a sentence is a token
    kinds = [sum(token % 3 == kind for token in tokens) for kind in range(3)]
    assert min(kinds) > 0
    assert found.samples == len(tokens)
    assert found.bins[4].samples == kinds[0]
    assert found.bins[7].samples == kinds[1] + kinds[2]
    assert found.bins[7].accuracy == pytest.approx(kinds[1] / (kinds[1] + kinds[2]))
    bits = kinds[0] + kinds[1] * -math.log2(0.75) + 2 * kinds[2]
    assert found.cross_entropy == pytest.approx(bits / len(tokens))


def test_the_figures_of_a_model_are_those_of_its_sentences_one_by_one(
    word_data: Path, word_model: Path
) -> None:
    """Without batches, so that there is no padding, and with torch's softmax of its logits."""
    loaded = load(word_data, word_model, cpu=True)
    found = measure(loaded, "test", "words")
    loaded.task.load_dataset("test")
    dataset = loaded.task.dataset("test")
    right = total = 0
    bits = confidence = 0.0
    for number in range(len(dataset)):
        sample = dataset.collater([dataset[number]])
        with torch.no_grad():
            probabilities = loaded.model(**sample["net_input"])[0][0].softmax(-1)
        for row, word in zip(probabilities, sample["target"][0].tolist(), strict=True):
            total += 1
            right += int(row.argmax() == word)
            confidence += float(row.max())
            bits -= math.log2(row[word])
    assert found.samples == total
    assert found.accuracy == right / total
    assert found.accuracy > 0.5
    assert found.confidence == pytest.approx(confidence / total, rel=1e-5)
    assert found.cross_entropy == pytest.approx(bits / total, rel=1e-4)


def test_cross_entropy_is_that_of_fairseqs_validation(word_data: Path, word_model: Path) -> None:
    loaded = load(word_data, word_model, cpu=True)
    criterion = CrossEntropyCriterion(loaded.task, sentence_avg=False)
    loss = tokens = 0.0
    for sample in batches(loaded, "valid", ""):
        with torch.no_grad():
            summed, size, _ = criterion(loaded.model, sample)
        loss, tokens = loss + float(summed), tokens + size
    found = measure(loaded, "valid", "words")
    assert found.cross_entropy == pytest.approx(loss / tokens / math.log(2), rel=1e-6)


def test_the_command_line(
    word_data: Path,
    word_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    arguments = [str(word_data), "--checkpoint", str(word_model), str(word_model), "--label", "A"]
    arguments += ["B", "--out", str(out), "--split", "valid", "--cpu"]
    monkeypatch.setattr(sys, "argv", ["recipes.evaluation.calibration", *arguments])
    calibration._main()
    assert not caplog.records  # fairseq's own are many
    logging.getLogger("after").info("heard again")
    assert len(caplog.records) == 1
    written = read_json(out / CALIBRATION, "")
    first, second = written["models"]
    assert (written["split"], first["label"], second["label"]) == ("valid", "A", "B")
    assert {**first, "label": "B"} == second
    assert sum(one["samples"] for one in first["bins"]) == first["samples"]
    said = capsys.readouterr().out
    assert f"{first['ece']:.3f}" in said and f"{first['entropy']:.2f}" in said
    assert (out / DIAGRAM).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("models", [1, 5])
def test_a_diagram_of_any_number_of_models_smoke(models: int, tmp_path: Path) -> None:
    found = {f"model {i}": of(*random_predictions(300, 5, seed=i)) for i in range(models)}
    plot_calibration(found, "Calibration", tmp_path / "d.png")
    assert (tmp_path / "d.png").stat().st_size > 10_000
    assert len(calibration_table(found).split("\n")) == models + 1


def test_a_sentence_that_is_left_out_is_an_error(word_data: Path, word_model: Path) -> None:
    loaded = load(word_data, word_model, cpu=True)
    loaded.model.max_positions = lambda: (6, 6)
    with pytest.raises(RecipeError, match=r"^\d+ of 30 sentences of test are not in .*: ids \d"):
        list(batches(loaded, "test", ""))


def test_a_sentence_that_is_seen_twice_is_an_error(word_data: Path, word_model: Path) -> None:
    loaded = load(word_data, word_model, cpu=True)
    get = loaded.task.get_batch_iterator

    def twice(*args: Any, **kwargs: Any) -> Any:
        iterator = get(*args, **kwargs)
        iterator._frozen_batches = (*iterator.frozen_batches, [3, 4])
        return iterator

    loaded.task.get_batch_iterator = twice
    with pytest.raises(RecipeError, match=r"2 of 30 sentences of test are not in .*: ids 3, 4"):
        list(batches(loaded, "test", ""))


def test_every_sentence_is_in_a_batch(word_data: Path, word_model: Path) -> None:
    """30 is no multiple of 8."""
    loaded = load(word_data, word_model, cpu=True)
    ids = [number for sample in batches(loaded, "test", "") for number in sample["id"].tolist()]
    assert sorted(ids) == list(range(30))


def test_a_model_that_has_diverged(word_data: Path, word_model: Path) -> None:
    loaded = load(word_data, word_model, cpu=True)
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(RecipeError, match=r"^words: .* it has diverged$"):
        measure(loaded, "test", "words")


def test_what_is_no_checkpoint_of_these_data(
    word_data: Path, word_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nonsense")
    with pytest.raises(RecipeError, match=r"broken\.pt: no checkpoint of fairseq"):
        calibrate(word_data, {"broken": broken}, tmp_path / "out", cpu=True)
    other = tmp_path / "data"
    (other / "bin").mkdir(parents=True)
    (other / "report.json").write_text(json.dumps({"languages": ["de", "en"]}))
    for lang in ("de", "en"):
        (other / "bin" / f"dict.{lang}.txt").write_text("one 1\n")
    with pytest.raises(RecipeError, match=r"checkpoint_last\.pt was not trained on .*: their dict"):
        load(other, word_model, cpu=True)
    with pytest.raises(RecipeError, match=r"--split nowhere: .* no such binarised split"):
        calibrate(word_data, {"words": word_model}, tmp_path / "out", split="nowhere", cpu=True)
    assert not (tmp_path / "out").exists()


def test_names_of_checkpoints(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("plain/checkpoints/a.pt", "salt/b.pt", "salt/c.pt")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert named(files[:2], None) == {"plain": files[0], "salt": files[1]}
    assert named(files[1:], ["x", "y"]) == {"x": files[1], "y": files[2]}
    with pytest.raises(RecipeError, match=r'b\.pt and .*c\.pt would both be called "salt"'):
        named(files, None)
    with pytest.raises(RecipeError, match="--label: 1 names for 2 checkpoints"):
        named(files[1:], ["x"])
    with pytest.raises(RecipeError, match=r"d\.pt: no such checkpoint"):
        named([tmp_path / "d.pt"], None)
