"""Several workers are one with as many batches per update: all methods, backends, 2 and 4."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.distributed import (
    DistributedTimeoutWrapper,
    LegacyDistributedDataParallel,
    ModuleProxyWrapper,
)

from fairseq_adv.tasks import workers
from tests.methods.method_table import TRAINED, Row, trained
from tests.support import processes, training


def train_all(data: Path, out: Path, backend: str, world: int, *methods: str) -> Path:
    """All methods, one after the other, in as many processes. Returns where they are."""
    out.mkdir(exist_ok=True)
    meet = processes.rendezvous(out)
    workers = range(1 if backend == "accumulated" else world)
    arguments = [(data, out, backend, meet, rank, world, *methods) for rank in workers]
    processes.end(*(processes.start("tests.tasks.workers", *each) for each in arguments))
    return out


QUICK = ("salt", "smart", "freeat-task-loss", "rdrop")
"""What the quick tests train: one of each kind of update."""
OF_SENTENCES = (*QUICK, "mat", "freelb-divergence")
"""The same, of quick tests about sentences."""

Trained = Callable[[str, str], Path]
"""Where a backend has trained a method, and what it is together with. `accumulated` is one too."""


def trainings(data: Path, folder: Path, *groups: Sequence[str]) -> Trained:
    """Two workers, or one with two batches per update.

    :param groups: names of methods that are trained together; one more has those that are in none.
    """
    named = {name for group in groups for name in group}
    groups = (*groups, [row.name for row in TRAINED if row.name not in named])

    @functools.cache
    def of_group(backend: str, number: int) -> Path:
        name = f"{'_'.join(backend.split())}-{number}"
        return train_all(data, folder / name, backend, 2, *groups[number])

    return lambda backend, method: of_group(
        backend, next(i for i, group in enumerate(groups) if method in group)
    )


@pytest.fixture(scope="module")
def two(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trainings of translation models."""
    return trainings(toy_data, tmp_path_factory.mktemp("two"), QUICK)


@pytest.fixture(scope="module")
def of_sentences(toy_sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trainings about sentences."""
    return trainings(toy_sentences, tmp_path_factory.mktemp("sentences"), OF_SENTENCES)


BACKENDS = [
    pytest.param(
        row,
        backend,
        id=f"{backend}-{row.name}",
        marks=[] if row.name in QUICK else pytest.mark.slow,
    )
    for backend in ("legacy_ddp", "pytorch_ddp")
    for row in TRAINED
]
each_backend = pytest.mark.parametrize(("row", "backend"), BACKENDS)


def assert_same(found: Path, expected: Path, row: Row) -> None:
    ours, theirs = (training.state(folder / row.name) for folder in (found, expected))
    for key in ("num_updates", "lr_scheduler_state"):
        assert ours["optimizer_history"][-1][key] == theirs["optimizer_history"][-1][key]
    for name, parameter in theirs["model"].items():
        torch.testing.assert_close(ours["model"][name], parameter, rtol=1e-4, atol=1e-6)
    if row.criterion == "smart":
        reference = theirs["extra_state"]["ema"]
        for name, parameter in reference.items():
            torch.testing.assert_close(
                ours["extra_state"]["ema"][name], parameter, rtol=1e-4, atol=1e-6
            )


@each_backend
def test_two_workers_are_one_with_two_batches_per_update(
    row: Row, backend: str, two: Trained
) -> None:
    """The epoch ends in the ninth update, where the second worker has no batch any more."""
    assert_same(two(backend, row.name), two("accumulated", row.name), row)


NOT_OF_THE_GAME = {"wps", "ups", "train_wall", "wall", "gb_free", "clip"}


@each_backend
def test_two_workers_log_what_one_does(row: Row, backend: str, two: Trained) -> None:
    """All losses and gauges are of the whole update, also where a worker has no batch any more."""
    found, expected = (
        json.loads((folder / row.name / "log.json").read_text())
        for folder in (two(backend, row.name), two("accumulated", row.name))
    )
    assert len(found) == len(expected) == 9
    measured = set()
    for ours, theirs in zip(found, expected, strict=True):
        # What is not logged in an update may come as null in its line.
        present = {name for name, value in ours.items() if value is not None}
        assert present == {name for name, value in theirs.items() if value is not None}
        for name in present - NOT_OF_THE_GAME:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=2e-3, abs=1e-4), name
        measured |= present
    assert ("interaction" in measured) == (row.criterion == "salt")
    assert ("adv_gain" in measured) == (row.criterion != "rdrop")


@pytest.mark.slow
def test_a_wrapper_around_the_one_that_shares_gradients_changes_nothing(
    toy_data: Path, tmp_path: Path, two: Trained
) -> None:
    """fairseq puts one more around the model to watch over hung updates."""
    (salt,) = (row for row in TRAINED if row.name == "salt")
    watched = "pytorch_ddp --heartbeat-timeout 600"
    found = train_all(toy_data, tmp_path / "watched", watched, 2, salt.name)
    assert_same(found, two("accumulated", salt.name), salt)
    assert json.loads((found / "synchronisations.json").read_text()) == {salt.name: 9}


def test_what_shares_gradients_is_found_behind_any_wrappers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = torch.nn.Linear(1, 1)
    shared = LegacyDistributedDataParallel(inner, process_group=None)
    monkeypatch.setattr(workers, "world_size", lambda: 2)
    watch = functools.partial(DistributedTimeoutWrapper, timeout=0)
    for wrapped in (
        shared,
        watch(shared),
        ModuleProxyWrapper(shared),
        watch(ModuleProxyWrapper(shared)),
        ModuleProxyWrapper(watch(shared)),
        watch(watch(ModuleProxyWrapper(shared))),
    ):
        assert workers.shares_gradients(wrapped) is shared

    class Unknown(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

    for model in (inner, Unknown(shared), ModuleProxyWrapper(Unknown(shared))):
        with pytest.raises(SystemExit, match="use --ddp-backend legacy_ddp"):
            workers.shares_gradients(model)
    monkeypatch.setattr(workers, "world_size", lambda: 1)
    assert workers.shares_gradients(inner) is None


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_gradients_are_shared_once_per_update(backend: str, two: Trained) -> None:
    found = json.loads((two(backend, QUICK[0]) / "synchronisations.json").read_text())
    assert found == dict.fromkeys((row.name for row in TRAINED if row.name in QUICK), 9)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_four_workers_are_one_with_four_batches_per_update(
    backend: str, toy_data: Path, tmp_path: Path
) -> None:
    expected = train_all(toy_data, tmp_path / "one", "accumulated", 4)
    found = train_all(toy_data, tmp_path / "four", backend, 4)
    for row in TRAINED:
        assert_same(found, expected, row)


@trained(quick=OF_SENTENCES)
def test_two_workers_are_one_about_sentences(row: Row, of_sentences: Trained) -> None:
    """Parameters, and what is logged: losses are of sentences, and words are not counted."""
    folders = [of_sentences(backend, row.name) for backend in ("legacy_ddp", "accumulated")]
    assert_same(*folders, row)
    ours, theirs = (json.loads((f / row.name / "log.json").read_text()) for f in folders)
    assert len(ours) == len(theirs) == 9
    for one, other in zip(ours, theirs, strict=True):
        for name in one.keys() - NOT_OF_THE_GAME:
            if one[name] is not None:
                expected = pytest.approx(float(other[name]), rel=2e-3, abs=1e-4)
                assert float(one[name]) == expected, name


@pytest.mark.slow
def test_two_workers_measure_all_predictions(toy_sentences: Path, tmp_path: Path) -> None:
    """F1 and correlations are of the whole validation set, which workers share out."""
    learn = [*training.SENTENCES, "--lr", "2e-2", "--max-update", "60", "--dropout", "0"]
    plain = "sentence_prediction"
    training.run_training(toy_sentences, tmp_path / "learnt", *learn, criterion=plain)
    options = [*training.SENTENCES, "--report-acc-and-f1", "--report-mcc", "--lr", "0"]
    options += ["--finetune-from-model", str(tmp_path / "learnt" / "checkpoint_last.pt")]
    options += ["--max-update", "1", "--best-checkpoint-metric", "mcc"]
    options += ["--maximize-best-checkpoint-metric"]
    training.run_training(toy_sentences, tmp_path / "one", *options)
    options += ["--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"]
    options += ["--distributed-world-size", "2", "--distributed-no-spawn"]
    options += ["--distributed-init-method", processes.rendezvous(tmp_path)]
    arguments = training.arguments(toy_sentences, tmp_path / "two", *options)
    start = functools.partial(processes.start, "fairseq_cli.train", *arguments)
    processes.end(*(start("--distributed-rank", rank) for rank in (0, 1)))
    one, two = (training.state(tmp_path / name)["extra_state"] for name in ("one", "two"))
    assert two["val_loss"] == one["val_loss"] != 0


def two_workers(data: Path, save_dir: Path, *more: str) -> dict[str, Any]:
    """fairseq-train with FreeAT in two processes, as a launcher starts them: what they leave."""
    options = ["--replays", "3", "--ascent-step-size", "0.3", "--epsilon", "0.5", "--max-update"]
    options += ["10", "--max-tokens", "40", "--ddp-backend", "legacy_ddp"]
    options += ["--distributed-backend", "gloo", "--distributed-world-size", "2"]
    options += ["--distributed-no-spawn"]
    options += ["--distributed-init-method", processes.rendezvous(save_dir.parent), *more]
    arguments = training.arguments(data, save_dir, *options, criterion="freeat")
    start = functools.partial(processes.start, "fairseq_cli.train", *arguments)
    processes.end(*(start("--distributed-rank", rank) for rank in (0, 1)))
    return training.state(save_dir)


@pytest.mark.slow
def test_two_workers_resume_bit_identical(toy_data: Path, tmp_path: Path) -> None:
    """From inside a group of replays: each has the perturbations of its own batches back."""
    whole = two_workers(toy_data, tmp_path / "whole")
    parts = tmp_path / "parts"
    first = two_workers(toy_data, parts, "--max-update", "5")
    memories = first["extra_state"]["AdversarialTranslationTask"]["memories"]
    (mine,), (others,) = (memory["waiting"] for memory in memories)
    assert mine[0] != others[0], "other sentences"
    last = two_workers(toy_data, parts)
    for name, parameter in whole["model"].items():
        assert torch.equal(last["model"][name], parameter), name
