"""What an update costs: memory worked out by hand, time by a clock that the test turns."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import trainer
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY

from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.tasks.adversarial_training import AdversarialTraining
from recipes.comparison import __main__ as comparison
from recipes.comparison import costs
from recipes.comparison import measured as trainings
from recipes.comparison.contenders import contenders
from recipes.comparison.costs import Cost, Costs, measure
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.measured import peak_memory
from recipes.support.errors import RecipeError
from recipes.support.files import write_json
from tests.support import training
from tests.support.processes import ROOT

N = 1_000_000  # numbers of 4 bytes in a tensor
ALLOCATOR = 0.01
"""By so much may two equal updates differ at their peak: the threads of a backward pass race."""
PLAIN = ["--criterion", "label_smoothed_cross_entropy"]
SALT = ["--criterion", "salt"]
SHARED = [
    *["--task", "adversarial_translation", *training.MODEL, "--label-smoothing", "0.1"],
    *["--optimizer", "adam", "--lr", "1e-3", "--max-tokens", "60", "--cpu"],
]


class Clock:
    """Stands still but in the passes of a batch, which take as long as `seconds` says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: Callable[[Any, dict[str, Any], int], float] = lambda *_: 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that trainings turn."""
    train_step = AdversarialTraining.train_step
    result = Clock()

    def timed(task: Any, **given: Any) -> Any:
        result.now += result.seconds(given["criterion"], given["sample"], given["update_num"])
        return train_step(task, **given)

    monkeypatch.setattr(AdversarialTraining, "train_step", timed)
    return result


def measured(
    data: Path,
    methods: dict[str, list[str]],
    *shared: str,
    rounds: int = 1,
    updates: int = 1,
    clock: Callable[[], float] | None = None,
) -> Costs:
    """The costs of methods relative to plain training, on a clock of the test's or any."""
    contenders = {"plain": PLAIN, **methods}
    options = [*SHARED, *shared]
    return measure(data, options, contenders, "plain", rounds, updates, clock or Ticks())


def plain_training(data: Path) -> trainings.Training:
    settings = trainings.settings_of("plain", [str(data), *SHARED, *PLAIN])
    return trainings.Training(settings, 1, 1, Ticks())


class Ticks:
    """A clock that is a second later whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_peak_is_the_most_that_is_there_at_once() -> None:
    def update() -> None:
        a = torch.empty(4 * N)
        b = torch.empty(2 * N)
        del a
        c = torch.empty(3 * N)
        del b
        d = torch.empty(N)
        del c, d

    assert peak_memory(update, cuda=False) == 4 * 6 * N  # a and b; later 5 and 4


def test_what_stays_counts_and_what_was_there_does_not() -> None:
    parameter = torch.zeros(N, requires_grad=True)

    def update() -> None:
        (parameter * torch.ones(N)).sum().backward()

    # The ones; then the product, in whose place comes the gradient. Two scalars: the sum, its own.
    assert 0 <= peak_memory(update, cuda=False) - 4 * 2 * N <= 100
    assert peak_memory(lambda: None, cuda=False) == 0


def test_a_peak_on_the_gpu_outlives_fairseq_s_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"now": 100, "peak": 900}  # bytes

    def hold(size: int) -> None:
        gpu["now"] = size
        gpu["peak"] = max(gpu["peak"], size)

    def reset() -> None:
        gpu["peak"] = gpu["now"]

    def update() -> None:
        hold(350)
        hold(120)
        torch.cuda.reset_peak_memory_stats()  # as the end of fairseq's `Trainer.train_step` does
        hold(130)

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: gpu["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: gpu["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    assert peak_memory(update, cuda=True) == 250
    assert torch.cuda.reset_peak_memory_stats is reset


def test_plain_training_costs_as_much_as_plain_training(toy_data: Path, clock: Clock) -> None:
    clock.seconds = lambda _, sample, __: float(sample["ntokens"])
    found = measured(toy_data, {"again": PLAIN}, rounds=2, updates=3, clock=clock)
    assert found.methods["plain"] == Cost(1.0, 1.0)
    assert found.methods["again"].time == 1.0
    assert found.methods["again"].memory == pytest.approx(1.0, rel=ALLOCATOR)


def test_one_slow_round_does_not_matter(toy_data: Path, clock: Clock) -> None:
    """Of five rounds of two updates, two hold an update that took 1,000 times as long."""
    updates = 0

    def seconds(criterion: Any, *_: Any) -> float:
        nonlocal updates
        if not isinstance(criterion, AdversarialCriterion):
            return 2.0
        updates += 1
        return 5000.0 if updates in (6, 12) else 5.0  # 2 to warm up, 3 for memory, then rounds

    clock.seconds = seconds
    found = measured(toy_data, {"salt": SALT}, rounds=5, updates=2, clock=clock)
    assert found.methods["salt"].time == 2.5
    assert updates == 15


@pytest.mark.slow
def test_rounds_have_all_updates_from_game_to_game(toy_data: Path, clock: Clock) -> None:
    """Every 4th update of one and every 6th of the other is a game, which takes 7 times as long."""
    games = 0

    def seconds(criterion: Any, _: Any, update: int) -> float:
        nonlocal games
        if isinstance(criterion, AdversarialCriterion) and criterion.weight(update) > 0:
            games += 1
            return 7.0
        return 1.0

    clock.seconds = seconds
    methods = {"4": [*SALT, "--adv-interval", "4"], "6": [*SALT, "--adv-interval", "6"]}
    found = measured(toy_data, methods, updates=5, clock=clock)
    assert found.updates == 12
    assert found.methods["4"].time == (7 + 3) / 4
    assert found.methods["6"].time == pytest.approx((7 + 5) / 6)
    memory = found.methods["4"].memory
    assert 1 < memory == pytest.approx(found.methods["6"].memory, rel=ALLOCATOR)
    # In 12 updates to warm up and 12 of the round, and one on each of the batches for memory.
    assert games == (3 + 3 + 3) + (2 + 2 + 3)


@pytest.mark.slow
def test_replays_are_of_the_batches_that_plain_training_has(toy_data: Path, clock: Clock) -> None:
    """An epoch has 4 whole groups of batches, which come again, and an incomplete one."""
    clock.seconds = lambda _, sample, __: float(sample["ntokens"] ** 2)
    freeat = ["--criterion", "freeat", "--replays", "3"]
    shared = ("--update-freq", "3")
    found = measured(toy_data, {"freeat": freeat}, *shared, rounds=2, updates=3, clock=clock)
    assert found.methods["freeat"].time == pytest.approx(1, rel=1e-12)


def test_memory_is_that_of_the_largest_batches(toy_data: Path) -> None:
    epoch = plain_training(toy_data).trainer.get_train_iterator(epoch=1)

    def words(sample: dict[str, Any]) -> int:
        return int(sample["net_input"]["src_tokens"].numel() + sample["target"].numel())

    every = sorted((words(sample) for sample in epoch.next_epoch_itr()), reverse=True)
    assert [words(sample) for sample in trainings._largest_batches(epoch)] == every[:3]
    assert every[0] > every[-1]


@pytest.mark.slow
def test_gradients_of_the_update_before_are_not_there(
    toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be part of what an update starts from, instead of what it takes."""
    found = plain_training(toy_data)
    parameters = list(found.trainer.model.parameters())

    def peak_memory(update: Callable[[], object], cuda: bool) -> int:
        assert all(parameter.grad is None for parameter in parameters)
        update()
        return sum(parameter.grad is not None for parameter in parameters)

    monkeypatch.setattr(trainings, "peak_memory", peak_memory)
    assert found.peak() == len(parameters)


def test_gauges_are_off_and_all_else_is_as_asked_for(toy_data: Path, clock: Clock) -> None:
    seen = set()

    def seconds(criterion: Any, *_: Any) -> float:
        if isinstance(criterion, AdversarialCriterion):
            seen.add((criterion.cfg.gauge_interval, criterion.cfg.epsilon))
        return 1.0

    clock.seconds = seconds
    method = [*SALT, "--gauge-interval", "1", "--epsilon", "0.7"]
    measured(toy_data, {"salt": method}, clock=clock)
    assert seen == {(0, 0.7)}


def test_all_that_play_games_have_gauges_to_turn_off() -> None:
    for name, config in CRITERION_DATACLASS_REGISTRY.items():
        plays_games = issubclass(CRITERION_REGISTRY[name], AdversarialCriterion)
        assert hasattr(config, "gauge_interval") == hasattr(config, "adv_interval") == plays_games


@pytest.mark.slow
def test_no_more_than_two_models_are_there_at_once(
    toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[Any]] = []
    alive = []

    class Counted(trainer.Trainer):  # type: ignore[misc]
        def __init__(self, config: Any, task: Any, model: Any, criterion: Any) -> None:
            super().__init__(config, task, model, criterion)
            models.append(weakref.ref(model))
            alive.append(sum(model() is not None for model in models))

    monkeypatch.setattr(trainer, "Trainer", Counted)
    smart = ["--criterion", "smart", "--store-ema", "--ema-decay", "0.9"]
    measured(toy_data, {"salt": SALT, "smart": smart, "freeat": ["--criterion", "freeat"]})
    assert alive == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--criterion", "salt", "--epsylon", "1"], "salt: unrecognized arguments: --epsylon 1"),
        (["--criterion", "salt", "--adv-interval", "0"], "salt: fairseq_adv: --adv-interval 0: "),
        (["--criterion", "salt", "--update-freq", "99"], "salt: the training set has no 99"),
        (["--criterion", "salt", "--encoder-attention-heads", "3"], "salt: AssertionError: "),
    ],
)
def test_an_option_that_fairseq_refuses(toy_data: Path, options: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        measured(toy_data, {"salt": options})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_method_that_does_not_fit_into_memory(toy_data: Path, clock: Clock) -> None:
    """fairseq would leave such batches out, and go on."""

    def seconds(criterion: Any, *_: Any) -> float:
        if isinstance(criterion, AdversarialCriterion):
            raise RuntimeError("CUDA out of memory.\nTried to allocate 1 TiB")
        return 1.0

    clock.seconds = seconds
    with pytest.raises(RecipeError, match=r"^salt: RuntimeError: CUDA out of memory\. Tried"):
        measured(toy_data, {"salt": SALT}, clock=clock)


def test_names_are_unique_and_texts_are_words() -> None:
    assert costs._contenders(["a --criterion 'x y'", "b"]) == {"a": ["--criterion", "x y"], "b": []}
    with pytest.raises(RecipeError, match="two contenders called a"):
        costs._contenders(["a --criterion x", "a"])
    with pytest.raises(RecipeError, match="No closing quotation"):
        costs._contenders(["a --criterion 'x"])


def run(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, as a shell would run it."""
    command = [sys.executable, "-m", "recipes.comparison.costs", str(data), "--out", str(out)]
    baseline = ["--baseline", " ".join(["plain", *PLAIN])]
    return subprocess.run(
        [*command, *baseline, *options, "--", *SHARED], capture_output=True, text=True, cwd=ROOT
    )


def test_the_command_writes_what_it_measured_and_says_no_more(
    toy_data: Path, tmp_path: Path
) -> None:
    methods = {"salt": [*SALT, "--adv-interval", "2"], "rdrop": ["--criterion", "rdrop"]}
    given = [f"--method={name} {' '.join(options)}" for name, options in methods.items()]
    done = run(toy_data, tmp_path / "new" / "costs.json", *given, "--rounds", "1", "--updates", "1")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "new" / "costs.json").read_text("utf-8"))
    for name, line in zip(methods, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{name}: {found['methods'][name]['time']:.2f} times the time")
        assert found["methods"][name].keys() == {"time", "memory"}
    assert found["methods"]["plain"] == {"time": 1.0, "memory": 1.0}
    assert found["options"] == {"plain": PLAIN, **methods}
    assert found["shared"] == SHARED
    assert (found["baseline"], found["rounds"], found["updates"]) == ("plain", 1, 2)
    assert 0 < found["tokens"] <= 60
    assert (found["device"], found["threads"], found["torch"]) == ("CPU", 1, torch.__version__)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "salt --criterion salt --epsylon 1"], "salt: unrecognized arguments: "),
        (["--rounds", "0"], "--rounds 0: allowed is 1, 2, 3, ..."),
    ],
)
def test_the_command_writes_nothing_but_one_line_where_it_fails(
    toy_data: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = run(toy_data, tmp_path / "costs.json", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"recipes.comparison.costs: error: {said}")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_costs_are_measured_anew_on_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same data and options the file is read; other data are measured, all of them."""
    (tmp_path / "bin").mkdir()
    stamp = tmp_path / "bin" / "stage.json"
    stamp.write_text("one")
    measured = []

    def measure(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        words = [command[command.index("--baseline") + 1]]
        words += [command[i + 1] for i, word in enumerate(command) if word == "--method"]
        names = {text.split()[0]: shlex.split(text)[1:] for text in words}
        measured.append(sorted(names))
        found = {"methods": {n: {"time": 1.0, "memory": 1.0} for n in names}, "options": names}
        write_json(found | {"device": "CPU"}, Path(command[command.index("--out") + 1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(comparison.subprocess, "run", measure)

    def costs(*names: str) -> set[str]:
        path = tmp_path / "costs.json"
        found = comparison.measured_costs(
            Translation(tmp_path), path, contenders(names), ["--cpu"], 1
        )
        return set(found["methods"])

    assert costs("salt") == {"transformer", "salt"}
    assert costs("salt") == {"transformer", "salt"} and len(measured) == 1
    assert costs("salt", "adv") == {"transformer", "salt", "adv"}
    assert measured[1:] == [["adv", "transformer"]]
    stamp.write_text("another")
    assert costs("adv") == {"transformer", "adv"}
    assert measured[2:] == [["adv", "transformer"]]
