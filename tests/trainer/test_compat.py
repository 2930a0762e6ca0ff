"""Each patch of `compat`: what goes wrong without it, and that it does not with it."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models.distributed_fairseq_model import DistributedFairseqModel
from fairseq.trainer import Trainer

from fairseq_adv.trainer.game_trainer import GameTrainer
from tests.methods.method_table import ROWS
from tests.support import processes, tiny, training, updates


@pytest.mark.parametrize("max_sentences", [None, 1, 7, 8, 64, 100, 1000])
@pytest.mark.parametrize("sentences", [0, 1, 5, 8, 100])
def test_every_sentence_is_batched(sentences: int, max_sentences: int | None) -> None:
    indices = np.random.default_rng(1).permutation(sentences)
    batches = data_utils.batch_by_size(
        indices,
        num_tokens_fn=lambda i: 3 + i % 5,
        num_tokens_vec=np.full(sentences, 5),
        max_tokens=60,
        max_sentences=max_sentences,
        required_batch_size_multiple=8,
    )
    assert [i for batch in batches for i in batch] == indices.tolist()
    assert all(len(batch) <= (max_sentences or 12) for batch in batches)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--store-ema",),
        ("--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}'),  # arrays in its meters
        tuple(training.LSTM),  # an argparse.Namespace for its options
    ],
)
def test_checkpoints_load(options: tuple[str, ...], toy_data: Path, tmp_path: Path) -> None:
    training.run_training(toy_data, tmp_path, "--max-update", "1", *options)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))
    assert state["cfg"]["criterion"]["_name"] == "salt"
    training.run_training(toy_data, tmp_path, "--max-update", "2", *options)  # and it goes on


def test_a_checkpoint_reaches_other_workers(toy_data: Path, tmp_path: Path) -> None:
    """As fairseq broadcasts it: tensors apart, the rest by torch.save and torch.load."""
    training.run_training(toy_data, tmp_path, "--max-update", "1")
    state = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))
    tensors: list[torch.Tensor] = []
    sent = distributed_utils._split_tensors_from_obj(state, tensors)
    torch.save(sent, tmp_path / "sent.pt")
    received = torch.load(tmp_path / "sent.pt")
    assert received["cfg"] == state["cfg"] and received["cfg"].criterion._name == "salt"
    again = distributed_utils._put_tensors_in_obj(received, tensors)
    assert again["model"].keys() == state["model"].keys()


def test_data_parallel_on_cpu(tmp_path: Path) -> None:
    meet = processes.rendezvous(tmp_path)
    torch.distributed.init_process_group("gloo", init_method=meet, world_size=1, rank=0)
    try:
        args = Namespace(
            tpu=False,
            ddp_backend="pytorch_ddp",
            device_id=0,
            broadcast_buffers=False,
            bucket_cap_mb=25,
            find_unused_parameters=False,
            gradient_as_bucket_view=False,
            ddp_comm_hook="none",
            heartbeat_timeout=-1,
        )
        model = DistributedFairseqModel(
            args, tiny.transformer(), torch.distributed.group.WORLD, torch.device("cpu")
        )
        sample = tiny.batch()
        model(**sample["net_input"])[0].sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        del model  # it waits for ever for threads of a group that was ended before
    finally:
        torch.distributed.destroy_process_group()


def test_every_worker_is_told_of_a_checkpoint(tmp_path: Path) -> None:
    """Also one that does not write it."""
    told = []

    class Task:
        def before_checkpoint(self, trainer: Any) -> None:
            told.append(1)

    class Trainer:
        data_parallel_rank = 1
        should_save_checkpoint_on_current_rank = False
        always_call_state_dict_during_save_checkpoint = False
        task = Task()

        def consolidate_optimizer(self) -> None:
            pass

    config = Namespace(no_save=False, save_dir=str(tmp_path), maximize_best_checkpoint_metric=False)
    checkpoint_utils.save_checkpoint(config, Trainer(), None, None)
    assert told == [1]
    config.no_save = True
    checkpoint_utils.save_checkpoint(config, Trainer(), None, None)
    assert told == [1]


@pytest.mark.parametrize("criterion", ["label_smoothed_cross_entropy", "freeat"])
def test_a_training_resumed_in_a_later_epoch_is_the_uninterrupted_one(
    criterion: str, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An epoch has four updates, of FreeAT eight: ten end in the middle of the third, or second."""
    options = ["--max-tokens", "250", "--disable-validation"]

    def run(name: str, updates: int) -> int:
        caplog.clear()
        with caplog.at_level("INFO"):
            training.run_training(
                *(toy_data, tmp_path / name, *options, "--max-update", str(updates)),
                criterion=criterion,
            )
        return int(training.log_of(caplog.records)[-1]["epoch"])

    assert run("stopped", 10) > 1
    run("stopped", 14)
    run("straight", 14)
    ours, theirs = (training.parameters(tmp_path / name) for name in ("stopped", "straight"))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("updates", ["4", "14"])  # inside an epoch, and at its end
def test_a_training_that_is_done_stays_as_it_is(
    updates: str, toy_data: Path, tmp_path: Path
) -> None:
    training.run_training(toy_data, tmp_path, "--max-update", updates)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
    training.run_training(toy_data, tmp_path, "--max-update", updates)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")} == before
    training.run_training(toy_data, tmp_path, "--max-update", "15")
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 15


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (("--max-update", "3"), "has made 4 updates, and --max-update is 3"),
        (("--max-update", "40", "--max-epoch", "1"), "has made 1 epochs, and --max-epoch is 1"),
    ],
)
def test_a_training_that_cannot_begin_is_refused(
    limit: tuple[str, ...],
    says: str,
    toy_data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = ("--max-update", "4") if "--max-epoch" not in limit else limit
    training.run_training(toy_data, tmp_path / "first", *first)
    last = tmp_path / "first" / "checkpoint_last.pt"
    with pytest.raises(SystemExit) as refused:
        training.run_training(toy_data, tmp_path / "new", *limit, "--restore-file", str(last))
    message = str(refused.value)
    assert f"--restore-file {last} {says}" in message and "--finetune-from-model" in message
    caplog.clear()
    with caplog.at_level("INFO"):  # but in its own directory it is only done
        training.run_training(toy_data, tmp_path / "first", *limit)
    assert f"the training in {tmp_path / 'first'} {says}: nothing is left to do" in caplog.text


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("bleu", "add --eval-bleu, or choose another"),
        ("accuracy", "add --report-accuracy, or choose another"),
        ("adv_loss", "loss, nll_loss, ppl: choose one of these"),
        ("los", "loss, nll_loss, ppl: choose one of these"),
    ],
)
@pytest.mark.parametrize("criterion", ["salt", "label_smoothed_cross_entropy"])
def test_a_metric_that_is_not_measured_is_refused(
    name: str, advice: str, criterion: str, toy_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=f"--best-checkpoint-metric {name}: .*{advice}$"):
        training.run_training(
            toy_data, tmp_path, "--best-checkpoint-metric", name, criterion=criterion
        )
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("metric", [("accuracy", "--report-accuracy"), ("ppl",)])
def test_a_metric_that_is_measured_is_taken(
    metric: tuple[str, ...], toy_data: Path, tmp_path: Path
) -> None:
    training.run_training(toy_data, tmp_path, "--best-checkpoint-metric", *metric)
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_without_validation_there_is_no_metric_to_refuse(toy_data: Path, tmp_path: Path) -> None:
    metric = ("--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric")
    training.run_training(toy_data, tmp_path, *metric, "--disable-validation")  # asks for none
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_a_path_with_colons_is_one(toy_data: Path, tmp_path: Path) -> None:
    here = tmp_path / "at 12:30:05"
    shutil.copytree(toy_data, here / "bin")
    training.run_training(here / "bin", here / "checkpoints")
    last = here / "checkpoints" / "checkpoint_last.pt"
    assert len(training.translations(here / "bin", last)) == 100
    training.run_training(toy_data, tmp_path / "plain")
    ours = training.parameters(here / "checkpoints")
    theirs = training.parameters(tmp_path / "plain")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_several_paths_stay_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "a:b", "c:d")
    for name in names:
        (tmp_path / name).mkdir()
    assert utils.split_paths(f"{tmp_path}/c:d") == [f"{tmp_path}/c:d"]
    assert utils.split_paths(f"{tmp_path}/a:{tmp_path}/b") == [f"{tmp_path}/a", f"{tmp_path}/b"]
    monkeypatch.chdir(tmp_path)
    assert utils.split_paths("a:b") == ["a", "b"]  # as fairseq would


def test_bf16_needs_no_tpu(toy_data: Path, tmp_path: Path) -> None:
    """Through fairseq's command line, which takes the one option for the other."""
    training.run_training(toy_data, tmp_path, "--bf16", criterion="label_smoothed_cross_entropy")
    last = training.state(tmp_path)["optimizer_history"][-1]
    assert last["num_updates"] == 4 and last["optimizer_name"] == "FP16Optimizer"


class ATrainerOfOnesOwn(Trainer):
    """Another program's, which counts."""

    def train_step(self, samples: Any, raise_oom: bool = False) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        return super().train_step(samples, raise_oom)


def test_a_trainer_of_one_s_own_plays_games_too() -> None:
    """What fairseq's lacks reaches classes that are made of it."""
    (row,) = (row for row in ROWS if row.name == "freeat-task-loss")
    ours = updates.trainer(row, tiny.transformer())
    theirs = ATrainerOfOnesOwn(ours.cfg, ours.task, ours.model, ours.criterion)
    theirs.reset_dummy_batch(tiny.batch(((4, 4), (2, 5)), seed=9))
    assert isinstance(theirs, GameTrainer) and type(theirs).__name__ == "ATrainerOfOnesOwn"
    lines = [updates.update(theirs, [tiny.batch()]) for _ in range(6)]
    assert theirs.steps == 6
    assert ["adv_loss" in line for line in lines] == [False, True, True] * 2
