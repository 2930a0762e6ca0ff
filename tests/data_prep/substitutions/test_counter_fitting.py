"""Counter-fitting: a naive loop, the derivative, and what it is for."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from data_prep.substitutions.counter_fitting import (
    CounterFitting,
    neighbours,
    normalised,
    without_common,
)

PLAIN = CounterFitting(steps=3, common=0)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def derivative(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of the distance in the first vector, by central differences."""
    found = np.zeros_like(one)
    for i in range(len(one)):
        step = np.zeros_like(one)
        step[i] = 1e-6
        found[i] = (distance(one + step, other) - distance(one - step, other)) / 2e-6
    return found


def naive(
    vectors: dict[str, np.ndarray],
    synonyms: list[tuple[str, str]],
    antonyms: list[tuple[str, str]],
    settings: CounterFitting,
) -> dict[str, np.ndarray]:
    """Mrksic et al. (2016), a pair after the other, in float64."""
    now = {word: v.astype(float) / np.linalg.norm(v) for word, v in vectors.items()}
    start = dict(now)
    near = [
        (one, other)
        for one in start
        for other in start
        if one != other and distance(start[one], start[other]) < settings.radius
    ]
    both = {(a, b) for a, b in antonyms} | {(b, a) for a, b in antonyms}
    like = ({(a, b) for a, b in synonyms} | {(b, a) for a, b in synonyms}) - both
    for _ in range(settings.steps):
        moves = defaultdict(list)
        for one, other in both:
            if distance(now[one], now[other]) < settings.apart:
                moves[one].append(derivative(now[one], now[other]))
        for one, other in like:
            if distance(now[one], now[other]) > 0:
                moves[one].append(-derivative(now[one], now[other]))
        for one, other in near:
            if distance(now[one], now[other]) > distance(start[one], start[other]):
                moves[one].append(-derivative(now[one], now[other]))
        now = {
            word: v + settings.weight * np.mean(moves[word], axis=0) if moves[word] else v
            for word, v in now.items()
        }
        now = {word: v / np.linalg.norm(v) for word, v in now.items()}
    return now


@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_the_papers_algorithm(steps: int) -> None:
    generator = np.random.default_rng(3)
    centre = generator.normal(size=(3, 6))
    vectors = {
        f"w{i}": (centre[i % 3] + 0.4 * generator.normal(size=6)).astype(np.float32)
        for i in range(15)
    }
    synonyms = [("w0", "w1"), ("w2", "w5"), ("w3", "w4"), ("w3", "w3"), ("w0", "missing")]
    antonyms = [("w0", "w3"), ("w4", "w3"), ("w6", "w9"), ("w1", "w2")]
    settings = CounterFitting(steps=steps, common=0)
    words, table = settings.fit(vectors, synonyms, antonyms)
    expected = naive(vectors, synonyms[:3], antonyms, settings)
    for word, row in zip(words, table, strict=True):
        np.testing.assert_allclose(row, expected[word], atol=2e-4)
    moved = [abs(expected[w] - normalised(vectors[w][None])[0]).max() for w in words]
    assert max(moved) > 0.02 * steps


def test_what_is_an_antonym_is_no_synonym() -> None:
    generator = np.random.default_rng(4)
    vectors = {name: generator.normal(size=5).astype(np.float32) for name in "ab"}
    vectors["b"] = vectors["a"] + 0.2 * vectors["b"]
    _, both = PLAIN.fit(vectors, [("a", "b"), ("b", "a")], [("a", "b")])
    _, apart = PLAIN.fit(vectors, [], [("b", "a")])
    np.testing.assert_array_equal(both, apart)


def test_neighbours_are_the_nearest_ones() -> None:
    generator = np.random.default_rng(5)
    table = normalised(generator.normal(size=(40, 4)).astype(np.float32))
    pairs = neighbours(table, 0.3, 3)
    cosine = table @ table.T
    np.fill_diagonal(cosine, -1)
    expected = [
        (row, other)
        for row in range(40)
        for other in np.argsort(-cosine[row])[:3]
        if cosine[row, other] > 0.7
    ]
    assert list(map(tuple, pairs.tolist())) == expected


def test_what_all_have_in_common_is_taken_away() -> None:
    generator = np.random.default_rng(6)
    table = generator.normal(size=(50, 6)) + 5 * np.ones(6)
    table += 9 * generator.normal(size=(50, 1)) * np.array([1, -1, 0, 0, 0, 0])
    left = without_common(table, 1)
    np.testing.assert_allclose(left.mean(0), 0, atol=1e-9)
    assert np.linalg.matrix_rank(left) == 5
    spread = np.linalg.svd(table - table.mean(0))[1]
    np.testing.assert_allclose(np.linalg.svd(left)[1][:5], spread[1:], rtol=1e-9)
