"""Minibatch replay: which batches come in which order, what is carried on, and what it costs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator, GroupedIterator

from fairseq_adv.core.sites import Delta
from fairseq_adv.trainer.replay import Memory, ReplayedBatches
from tests.support import processes, tiny, training


class Numbers(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 100


def iterator(
    batches: int, replays: int, update_freq: list[int], *, shards: int = 1, shard: int = 0
) -> ReplayedBatches:
    """Over as many batches of one number each."""
    plain = EpochBatchIterator(
        Numbers(),
        collate_fn=lambda batch: batch,
        batch_sampler=[[i] for i in range(batches)],
        num_shards=shards,
        shard_id=shard,
    )
    return ReplayedBatches(plain, "freeat", replays, update_freq)


def updates(found: ReplayedBatches, size: int, **options: Any) -> list[list[list[int]]]:
    """The groups of batches that fairseq makes one update of each."""
    return list(GroupedIterator(found.next_epoch_itr(shuffle=False, **options), size))


def test_each_group_comes_so_many_times_in_a_row() -> None:
    found = iterator(4, 3, [2])
    assert updates(found, 2) == [[[0], [1]]] * 3 + [[[2], [3]]] * 3
    assert len(found) == 12


def test_an_incomplete_group_is_replayed_too() -> None:
    """Empty batches stand in, for which fairseq goes through the motions."""
    found = iterator(5, 2, [3])
    assert updates(found, 3) == [[[0], [1], [2]]] * 2 + [[[3], [4], []]] * 2
    assert len(found) == 12


def test_workers_replay_at_the_same_time() -> None:
    first, second = (iterator(5, 2, [2], shards=2, shard=i) for i in (0, 1))
    assert updates(first, 2) == [[[0], [2]]] * 2 + [[[4], []]] * 2
    assert updates(second, 2) == [[[1], [3]]] * 2 + [[[], []]] * 2
    assert len(first) == len(second) == 8


def test_the_group_is_that_of_the_epoch() -> None:
    found = iterator(4, 2, [1, 2])
    assert updates(found, 1) == [[[0]], [[0]], [[1]], [[1]], [[2]], [[2]], [[3]], [[3]]]
    for _ in range(2):  # the last one goes on
        assert updates(found, 2) == [[[0], [1]]] * 2 + [[[2], [3]]] * 2
    assert found.epoch == 3


def test_a_resumed_epoch_goes_on_inside_a_group() -> None:
    found = iterator(4, 3, [2])
    groups = iter(GroupedIterator(found.next_epoch_itr(), 2))
    seen = [next(groups) for _ in range(4)]
    state = found.state_dict()
    assert state["iterations_in_epoch"] == 8
    again = iterator(4, 3, [2])
    again.load_state_dict(state)
    assert list(GroupedIterator(again.next_epoch_itr(), 2)) == list(groups)
    assert seen[:3] == [seen[0]] * 3 and seen[3] != seen[0]


def test_shuffled_epochs_have_every_batch_as_often() -> None:
    found = iterator(7, 3, [1])
    orders = []
    for _ in range(2):
        batches = [batch for (batch,) in GroupedIterator(found.next_epoch_itr(), 1)]
        orders.append(batches[::3])
        assert [b for b in batches[::3] for _ in range(3)] == batches
        assert sorted(batches[::3]) == [[i] for i in range(7)]
    assert orders[0] != orders[1]


def sample(*ids: int) -> dict[str, Any]:
    return {"id": torch.tensor(ids), "target": torch.zeros(1)}


def delta(value: float) -> Delta:
    return {"source": torch.tensor(value)}


def replay(memory: Memory, moved: Delta, *ids: int, skipped: bool = False) -> None:
    """An update with one batch."""
    memory.begin_update()
    memory.remember(sample(*ids), moved)
    memory.end_update(skipped)


def test_a_batch_is_remembered_until_its_last_replay() -> None:
    memory = Memory(3)
    memory.begin_epoch(1)
    assert memory.recall(sample(4, 2)) is None
    replay(memory, delta(1.0), 4, 2)
    assert memory.recall(sample(4, 2)) == delta(1.0)
    assert memory.recall(sample(2, 4)) is None
    replay(memory, delta(2.0), 4, 2)
    assert memory.recall(sample(4, 2)) == delta(2.0)
    replay(memory, delta(3.0), 4, 2)
    assert memory.recall(sample(4, 2)) is None, "that was the third time"
    assert memory.state_dict()["waiting"] == []


def test_a_skipped_update_moves_no_perturbation() -> None:
    """Its batch has had one of its replays all the same: another comes next."""
    memory = Memory(3)
    replay(memory, delta(1.0), 4)
    replay(memory, delta(2.0), 4, skipped=True)
    assert memory.recall(sample(4)) == delta(1.0)
    replay(memory, delta(3.0), 4)
    assert memory.state_dict()["waiting"] == []

    replay(memory, delta(1.0), 5, skipped=True)
    assert memory.recall(sample(5)) is None, "it begins at zero again"
    for value in (2.0, 3.0):
        replay(memory, delta(value), 5)
    assert memory.state_dict()["waiting"] == []


def test_an_update_that_is_tried_again_counts_once() -> None:
    """As --amp does after an overflow, with the same batch."""
    memory = Memory(2)
    memory.begin_update()
    memory.remember(sample(4), delta(1.0))
    replay(memory, delta(2.0), 4)
    memory.end_update()  # of the update that the other one was part of
    assert memory.recall(sample(4)) == delta(2.0)


def test_nothing_is_remembered_in_another_epoch() -> None:
    memory = Memory(3)
    memory.begin_epoch(1)
    replay(memory, delta(1.0), 4)
    again = Memory(3)
    again.load_state_dict(memory.state_dict())
    again.begin_epoch(1)  # as in a resumed run
    assert again.recall(sample(4)) == delta(1.0)
    again.begin_epoch(2)
    assert again.recall(sample(4)) is None


def test_without_perturbation_replays_are_fairseqs_own_updates(
    toy_data: Path, tmp_path: Path
) -> None:
    """One replay, no dropout, radius 0: plain training, with its schedule, clipping, counters.

    Up to rounding: losses are added up in another order.
    """
    options = ["--dropout", "0", "--clip-norm", "0.1", "--lr-scheduler", "inverse_sqrt"]
    options += ["--warmup-updates", "3", "--max-update", "9", "--update-freq", "2"]
    training.run_training(
        toy_data, tmp_path / "plain", *options, criterion="label_smoothed_cross_entropy"
    )
    freeat = ("--replays", "1", "--epsilon", "0")
    training.run_training(toy_data, tmp_path / "freeat", *options, *freeat, criterion="freeat")
    plain, ours = (training.state(tmp_path / name) for name in ("plain", "freeat"))
    for name, parameter in plain["model"].items():
        torch.testing.assert_close(ours["model"][name], parameter, rtol=1e-4, atol=1e-5)
    for key in ("num_updates", "lr_scheduler_state"):
        assert plain["optimizer_history"][-1][key] == ours["optimizer_history"][-1][key]
    iterator = "train_iterator"
    assert plain["extra_state"][iterator] == ours["extra_state"][iterator]


def test_passes_over_the_data_are_counted_and_logged(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plain = "label_smoothed_cross_entropy"
    options = ("--max-epoch", "2", "--max-update", "0", "--update-freq", "2")
    training.run_training(toy_data, tmp_path / "plain", *options, criterion=plain)
    once = training.state(tmp_path / "plain")["optimizer_history"][-1]["num_updates"]
    caplog.clear()
    freeat = (*options, "--replays", "3")
    training.run_training(toy_data, tmp_path / "freeat", *freeat, criterion="freeat")
    updates = training.state(tmp_path / "freeat")["optimizer_history"][-1]["num_updates"]
    assert updates == 3 * once, "two passes over the data either way"
    said = [r.getMessage() for r in caplog.records if r.name == "fairseq_adv.trainer.replay"]
    assert (
        len(said) == 2 and f"epoch 2, one pass over the data, is {updates // 2} updates" in said[1]
    )
    assert not any("passes" in line for line in said), "there was no --max-update"
    lines = training.log_of(caplog.records)
    assert [line["epoch"] for line in lines].count(1) == updates // 2
    norms = [line.get("delta_norm") for line in lines]
    assert all((norm is None) == (i % 3 == 0) for i, norm in enumerate(norms)), "from zero"


def test_the_passes_of_a_run_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By hand: 4 groups of 2, each 3 times, are 12 updates; 30 of those are 2.5 passes."""
    caplog.set_level(logging.INFO)
    found = iterator(8, 3, [2])
    found.max_update = 30
    updates(found, 2)
    (line,) = (r.getMessage() for r in caplog.records if r.name == "fairseq_adv.trainer.replay")
    assert line.endswith("is 12 updates; 30 updates make 2.5 passes")


def _worker(rank: int, meet: str, out: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=meet, world_size=2, rank=rank)
    task = tiny.task()
    task.memory = Memory(2)
    task.memory.begin_epoch(1)
    replay(task.memory, delta(float(rank)), rank)
    task.before_checkpoint(None)
    states = [task.get_checkpoint_dict()]
    torch.distributed.broadcast_object_list(states)  # as fairseq does with what one worker reads
    task.memory = Memory(2)
    task.set_checkpoint_dict(states[0]["AdversarialTranslationTask"])
    torch.save([task.memory.recall(sample(i)) for i in (0, 1)], out / f"{rank}.pt")
    torch.distributed.barrier()  # who leaves earlier cuts off what the other still hears
    torch.distributed.destroy_process_group()


def test_every_worker_gets_back_what_it_remembered(tmp_path: Path) -> None:
    """A checkpoint is written by one worker, and holds what all of them carry on."""
    workers = (processes.rendezvous(tmp_path), tmp_path)
    torch.multiprocessing.start_processes(_worker, workers, nprocs=2, start_method="fork")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert found == [[delta(0.0), None], [None, delta(1.0)]]


def test_with_another_number_of_workers_nothing_is_remembered() -> None:
    task = tiny.task()
    task.memory = Memory(2)
    task.memory.begin_epoch(1)
    replay(task.memory, delta(1.0), 3)
    task.before_checkpoint(None)
    state = task.get_checkpoint_dict()["AdversarialTranslationTask"]
    state["memories"] *= 2
    task.memory = Memory(2)
    task.set_checkpoint_dict(state)
    assert task.memory.recall(sample(3)) is None


def test_a_stand_in_batch_is_nobodys_replay() -> None:
    """fairseq shows a worker without data some batch of the epoch, perhaps one that waits."""
    task = tiny.task()
    task.memory = Memory(3)
    criterion = tiny.criterion("freeat", replays=3)

    class Backward:
        def backward(self, loss: torch.Tensor) -> None:
            loss.backward()

    def update(**options: bool) -> None:
        task.begin_update(None)
        task.train_step(batch, model, criterion, Backward(), 0, **options)  # type: ignore[arg-type]
        task.end_update(None)

    model, batch = tiny.transformer(), tiny.batch()
    update()
    waiting = task.memory.recall(batch)
    assert waiting is not None
    update(ignore_grad=True)
    after = task.memory.recall(batch)
    assert after is not None
    assert all(torch.equal(after[side], waiting[side]) for side in waiting)
    update()
    assert task.memory.recall(batch) is not None, "played twice, and not three times"


def test_batches_of_the_same_ids_are_told_apart() -> None:
    """Sentences of two language pairs have the same ids; each batch goes on where it was."""
    memory = Memory(3)
    for step in range(2):
        memory.begin_update()
        for batch in (10.0, 20.0):
            expected = None if step == 0 else delta(batch)
            assert memory.recall(sample(4, 2)) == expected
            memory.remember(sample(4, 2), delta(batch + step))
        memory.end_update()
    again = Memory(3)
    again.load_state_dict(memory.state_dict())
    again.begin_update()
    for batch in (11.0, 21.0):
        assert again.recall(sample(4, 2)) == delta(batch)
        again.remember(sample(4, 2), delta(0.0))
    again.end_update()
    assert again.state_dict()["waiting"] == []
