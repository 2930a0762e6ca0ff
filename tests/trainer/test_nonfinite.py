"""What is not finite: the update is skipped, nothing of ours moves, and the log says where."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.comparison.predictions import Predictions
from fairseq_adv.core.comparison.softmax import Divergence
from fairseq_adv.core.players.rule import State
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.tasks.adversarial_training import AdversarialTraining
from tests.methods.method_table import ROWS, Row
from tests.support import processes, tiny, training
from tests.support.players import follower

OPTIONS = ("--dropout", "0.1", "--max-update", "6", "--disable-validation")
LARGE_START = ("--init-std", "0.05")  # 16 bits want one where nothing is dropped out


class Faulty:
    """Lets something be NaN in the batches that `when` chooses, by their number from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> None:
        self.monkeypatch = monkeypatch
        self.when = when
        self.batches: list[list[int]] = []
        play = AdversarialCriterion.play

        def counting(
            criterion: AdversarialCriterion, model: Any, sample: Any, *more: Any, **named: Any
        ) -> Any:
            self.batches.append(sample["id"].tolist())
            return play(criterion, model, sample, *more, **named)

        monkeypatch.setattr(AdversarialCriterion, "play", counting)

    @property
    def now(self) -> bool:
        return self.when(len(self.batches) - 1)

    def batch(self) -> None:
        """The model's output for one word is infinite."""
        original = FairseqGame._pass

        def spoilt(game: FairseqGame, *given: Any, **named: Any) -> Predictions:
            found = original(game, *given, **named)
            vectors, *projection = found.parts
            vectors = torch.cat([vectors[:1] / 0, vectors[1:]])
            return type(found)(vectors, *projection) if self.now else found

        self.monkeypatch.setattr(FairseqGame, "_pass", spoilt)

    def divergence(self) -> None:
        """Its value, and with an infinite weight its gradient."""
        initial, begin = Divergence.__init__, Divergence.begin

        def infinite(term: Divergence, *given: Any) -> None:
            initial(term, *given[:3], math.inf if self.now else (*given, 1.0)[3])

        def from_infinity(term: Divergence, zero: Tensor) -> None:
            begin(term, zero + math.inf if self.now else zero)

        self.monkeypatch.setattr(Divergence, "__init__", infinite)
        self.monkeypatch.setattr(Divergence, "begin", from_infinity)

    def gradient(self) -> None:
        """Of one parameter: no loss shows it."""
        original = AdversarialTraining.train_step

        def train_step(task: Any, sample: Any, model: Any, *more: Any, **named: Any) -> Any:
            result = original(task, sample, model, *more, **named)
            if self.now:
                next(iter(model.parameters())).grad[0, 0] = math.nan
            return result

        self.monkeypatch.setattr(AdversarialTraining, "train_step", train_step)


class Watch:
    """Compares the parameters when an update was skipped with those after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.skipped: list[int] = []
        self.tasks: list[Any] = []
        begin = AdversarialTraining.train_step
        skip = AdversarialTraining.update_skipped

        def train_step(task: Any, sample: Any, model: Any, *more: Any, **named: Any) -> Any:
            self.model = model
            self.before = [p.detach().clone() for p in model.parameters()]
            self.memory = task.memory and task.memory.state_dict()
            return begin(task, sample, model, *more, **named)

        def update_skipped(task: Any, trainer: Any, update: int, why: Any) -> None:
            skip(task, trainer, update, why)
            self.skipped.append(update)
            self.tasks.append(task)
            ends_a_group = task.sampled and task.memory.replay == 0  # and the model becomes a mean
            if not ends_a_group:
                assert all(map(torch.equal, self.model.parameters(), self.before))
            if task.memory:  # the perturbations that wait are those that waited before
                after = {tuple(ids): delta for ids, _, delta in task.memory.state_dict()["waiting"]}
                for ids, _, delta in self.memory["waiting"]:
                    for side, d in after.get(tuple(ids), delta).items():
                        assert torch.equal(d, delta[side])

        monkeypatch.setattr(AdversarialTraining, "train_step", train_step)
        monkeypatch.setattr(AdversarialTraining, "update_skipped", update_skipped)


def options_of(row: Row) -> list[str]:
    found = [f"--{name.replace('_', '-')}={value}" for name, value in row.options.items()]
    return [*OPTIONS, *found, *row.training]


QUICK = ("salt", "smart", "freeat-task-loss", "mat", "rdrop")
"""In whose losses and gradients it is tried by quick tests; in the batch in all."""

CASES = [
    pytest.param(
        row,
        fault,
        id=f"{row.name}-{fault}",
        marks=[] if fault == "batch" or row.name in QUICK else pytest.mark.slow,
    )
    for row in ROWS
    for fault in ("batch", "divergence", "gradient")
    if fault != "divergence" or not (row.criterion == "adv" or "task-loss" in row.name)
]


@pytest.mark.parametrize(("row", "fault"), CASES)
def test_an_update_without_a_finite_gradient_is_skipped(
    row: Row,
    fault: str,
    toy_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    faulty = Faulty(monkeypatch, lambda number: number == 2)
    getattr(faulty, fault)()
    watch = Watch(monkeypatch)
    training.run_training(toy_data, tmp_path, *options_of(row), criterion=row.criterion)
    assert watch.skipped == [3] and len(faulty.batches) == 7, "one more batch, for the lost one"
    assert all(p.isfinite().all() for p in training.parameters(tmp_path).values())
    lines = [r.getMessage() for r in caplog.records if r.name == "fairseq_adv.trainer.nonfinite"]
    assert lines[0] == "update 3 is skipped: its gradient is not finite (1 so far)"
    method, what = lines[1].split(": ", 1)
    assert method == row.criterion
    assert what.startswith("losses are finite") == (fault == "gradient")
    assert ", ".join(map(str, sorted(faulty.batches[2]))) in what
    assert [line.get("skipped") for line in training.log_of(caplog.records)][-1] == "1"


@pytest.mark.parametrize("fault", ["batch", "gradient"])
@pytest.mark.parametrize("scores", [False, True])
def test_about_sentences_too(
    fault: str,
    scores: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = request.getfixturevalue("toy_scores" if scores else "toy_sentences")
    faulty = Faulty(monkeypatch, lambda number: number == 2)
    getattr(faulty, fault)()
    watch = Watch(monkeypatch)
    options = [*training.SENTENCES, *OPTIONS, *(["--regression-target"] if scores else [])]
    options += ["--num-classes", "1"] if scores else []
    training.run_training(data, tmp_path, *options)
    assert watch.skipped == [3]
    assert all(p.isfinite().all() for p in training.parameters(tmp_path).values())
    lines = [r.getMessage() for r in caplog.records if r.name == "fairseq_adv.trainer.nonfinite"]
    assert ("clean_loss is" in lines[-1]) == (fault == "batch")
    assert ", ".join(map(str, sorted(faulty.batches[2]))) in lines[-1]


def test_too_many_in_a_row_end_the_training_with_a_checkpoint(
    toy_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patches:
        faulty = Faulty(patches, lambda number: number == 1 or number >= 4)
        faulty.batch()
        with pytest.raises(SystemExit) as end:
            training.run_training(toy_data, tmp_path, *OPTIONS, "--max-skipped-updates", "2")
    assert end.value.code == 1 and len(faulty.batches) == 7
    message = caplog.messages[-1]
    assert message.startswith("3 updates in a row") and "--max-skipped-updates is 2" in message
    assert message.endswith(f"the model of update 3 is saved as {tmp_path}/checkpoint_last.pt")
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 3
    training.run_training(toy_data, tmp_path, *OPTIONS)
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 6


@pytest.mark.parametrize("criterion", ["salt", "freeat"])
@pytest.mark.parametrize("way", ["--fp16", "--memory-efficient-fp16"])
def test_the_overflows_of_fp16_move_nothing(
    way: str,
    criterion: str,
    toy_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The loss scale begins far too high, and is halved until it fits; that ends no training."""
    caplog.set_level(logging.INFO)
    watch = Watch(monkeypatch)
    options = [*OPTIONS, way, "--fp16-no-flatten-grads", "--fp16-init-scale", str(2**24)]
    options += ["--max-skipped-updates", "0", *(LARGE_START if criterion == "salt" else [])]
    training.run_training(toy_data, tmp_path, *options, criterion=criterion)
    assert len(watch.skipped) > 3
    state = training.state(tmp_path)
    assert state["optimizer_history"][-1]["num_updates"] == 6
    scale = state["last_optimizer_state"]["loss_scale"]
    assert scale == 2 ** (24 - len(watch.skipped))
    assert all(p.isfinite().all() for p in state["model"].values())
    assert not any(r.levelno > logging.INFO for r in caplog.records if "nonfinite" in r.name)


def test_fp16_that_finds_no_scale_ends_with_a_checkpoint(
    toy_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Faulty(monkeypatch, lambda number: number >= 2).batch()
    with pytest.raises(SystemExit):
        options = ["--fp16", "--fp16-no-flatten-grads", "--min-loss-scale", "64", *LARGE_START]
        training.run_training(toy_data, tmp_path, *OPTIONS, *options)
    assert "update 3 cannot be made: Minimum loss scale reached" in caplog.messages[-1]
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 2


def test_amp_tries_a_batch_again_before_it_is_skipped(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a scaler as on a GPU: two more attempts, each with half the scale."""
    scalers: list[Any] = []

    def scaler(**options: Any) -> Any:
        scalers.append(torch.amp.GradScaler("cpu", init_scale=128.0))
        return scalers[-1]

    monkeypatch.setattr(torch.cuda.amp, "GradScaler", scaler)
    faulty = Faulty(monkeypatch, lambda number: 2 <= number < 5 or number in (6, 7))
    faulty.batch()
    watch = Watch(monkeypatch)
    training.run_training(toy_data, tmp_path, *OPTIONS, "--amp", *LARGE_START)
    assert watch.skipped == [3] and scalers[0].get_scale() == 4.0
    assert faulty.batches[2] == faulty.batches[3] == faulty.batches[4] != faulty.batches[5]
    # The next one has as many attempts.
    assert faulty.batches[6] == faulty.batches[7] == faulty.batches[8] != faulty.batches[9]
    assert len(faulty.batches) == 11
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 6


def _worker(rank: int, meet: str, data: Path, out: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=meet, world_size=2, rank=rank)
    patches = pytest.MonkeyPatch()
    if rank == 1:
        Faulty(patches, lambda number: number == 2).batch()
    watch = Watch(patches)
    sharing = ["--ddp-backend", "pytorch_ddp", "--distributed-world-size", "2"]
    sharing += ["--distributed-rank", str(rank), "--distributed-init-method", meet]
    sharing += ["--distributed-backend", "gloo", "--distributed-no-spawn"]
    training.run_training(data, out / "both", *OPTIONS, *sharing, "--log-file", f"{out}/{rank}.log")
    torch.save([p.detach() for p in watch.model.parameters()], out / f"{rank}.pt")
    assert watch.skipped == [3]


def test_all_workers_skip_what_one_of_them_cannot_use(toy_data: Path, tmp_path: Path) -> None:
    workers = (processes.rendezvous(tmp_path), toy_data, tmp_path)
    torch.multiprocessing.start_processes(_worker, workers, nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{i}.pt") for i in (0, 1))
    assert all(map(torch.equal, first, second))
    assert training.state(tmp_path / "both")["optimizer_history"][-1]["num_updates"] == 6


@pytest.mark.parametrize("rule", ["sgd", "normalized", "sign", "adam", "rmsprop"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_ascent_rule_swallows_what_is_not_finite(rule: Any, value: float, norm: Any) -> None:
    player = follower(
        sites=("source",),
        epsilon=1.0,
        norm=norm,
        init_std=0.1,
        ascent_step_size=0.3,
        ascent_rule=rule,
    )
    game = tiny.game(tiny.transformer(), tiny.batch())
    delta, state = player.begin(game)
    gradient = {side: torch.ones_like(d) for side, d in delta.items()}
    gradient["source"][0, -1, 0] = value
    moved, _ = player.move(game, delta, gradient, State(0, state.moments))
    assert not moved["source"].isfinite().all()
