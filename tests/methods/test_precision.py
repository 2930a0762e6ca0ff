"""16 bits: gradients stay those of the method, and what has to be in float32 is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from torch import Tensor

from fairseq_adv.core.comparison import softmax
from fairseq_adv.core.comparison.softmax import Divergence, probabilities
from fairseq_adv.core.sites import Delta
from fairseq_adv.tasks.optimizer_backward import OptimizerBackward
from tests.methods.method_table import (  # noqa: F401  (a fixture)
    MODELS,
    ROWS,
    Match,
    Row,
    Waiting,
    every_method,
    noise_by_position,
    trained_of_kinds,
)
from tests.support import tiny, training
from tests.support.gradients import distance
from tests.support.updates import trainer, update

# At their worst, the tiny models' games have 0.09, 0.03 and 0.09.
TOLERANCE = {"bf16": 0.15, "fp16": 0.06, "amp": 0.15}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "amp": torch.float32}


class Optimizer:
    """As far as a backward pass goes."""

    def __init__(self, scale: float | None) -> None:
        self.scaler = None if scale is None else DynamicLossScaler(init_scale=scale)

    def backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()


def play(
    match: Match, sample: dict[str, Any], precision: str, scale: float
) -> tuple[list[Tensor], Delta]:
    """The gradient, in float64 and free of the loss scale, and the perturbation."""
    for model in (match.model, match.reference):
        model.to(TYPES[precision])
    match.model.zero_grad(set_to_none=True)
    autocast = precision == "amp"
    match.game = match.game_on(sample, autocast=autocast)
    waiting = None if match.memory is None else Waiting(match, torch.float32)
    beside = match.beside(match.game, waiting)
    backward = OptimizerBackward(Optimizer(scale), ignore_grad=False)  # type: ignore[arg-type]
    step = match.criterion.method.step(match.game, backward, weight=match.weight, **beside)
    assert all(delta.dtype == torch.float32 for delta in step.delta.values())
    gradient = [
        torch.zeros_like(p, dtype=torch.float64) if p.grad is None else p.grad.double() / scale
        for p in match.model.parameters()
    ]
    return gradient, step.delta


@pytest.mark.parametrize(
    ("row", "model", "perturb", "scale"),
    [
        pytest.param(row, model, perturb, scale, id=f"{row.name}-{model}-{perturb}-{scale:g}")
        for row in ROWS
        for model, perturb, scale in (
            ("transformer", None, 1.0),
            ("transformer", None, 256.0),
            ("transformer", "attention", 256.0),
            ("two-classes", None, 256.0),
            ("two-classes", "attention", 256.0),
            ("numbers", None, 256.0),
        )
        if perturb is None or row.ball
    ],
)
@pytest.mark.parametrize("precision", ["bf16", "fp16", "amp"])
def test_the_gradient_is_that_of_float64(
    row: Row,
    model: str,
    perturb: str | None,
    precision: str,
    scale: float,
    noise_by_position: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to rounding; and divergences are taken between probabilities in float32."""
    types = set()
    add, to_logits = Divergence.add, softmax._to_logits

    def adding(term: Divergence, *chunks: Any) -> None:
        types.update(t.dtype for chunk in chunks for t in (chunk.logits, probabilities(chunk)))
        add(term, *chunks)

    def to_logits_noted(kind: Any, *chunks: Any) -> Any:
        types.update(t.dtype for chunk in chunks for t in (chunk.logits, probabilities(chunk)))
        return to_logits(kind, *chunks)

    monkeypatch.setattr(Divergence, "add", adding)
    monkeypatch.setattr(softmax, "_to_logits", to_logits_noted)
    # Each further step would blow up the rounding of the one before.
    options: dict[str, Any] = {name: 1 for name in STEPS if name in row.options and takes(row)}
    if perturb is not None:
        options["perturb"] = perturb
    match = Match(row, MODELS[model], **options)
    sample = match.batch()
    with tiny.float64_throughout():
        match.play(sample)
    types.clear()
    found, _ = play(match, sample, precision, scale)
    assert distance(found, match.gradient) < TOLERANCE[precision]
    assert types <= {torch.float32}


STEPS = ("ascent_steps", "follower_samples")


def takes(row: Row) -> bool:
    """Whether its follower may take several steps."""
    return any(row.options.get(name, 0) > 0 for name in STEPS)


def test_a_tiny_ascent_neither_vanishes_nor_overflows_in_float16(
    noise_by_position: None,  # noqa: F811
) -> None:
    """The gradient of a divergence is next to nothing where it begins.

    Where it leads is rounding, and differs by processor; that the step is taken is not.
    """
    length = {"ascent_rule": "normalized", "ascent_step_size": 0.3}
    match = Match(SALT, init_std=1e-4, ascent_steps=1, **length)
    found, delta = play(match, tiny.batch(), "fp16", 16.0)
    assert all(g.isfinite().all() for g in found)
    for each in delta.values():
        torch.testing.assert_close(
            each.flatten(1).norm(dim=1), torch.full((len(each),), 0.3), rtol=0.01, atol=0
        )


(SALT,) = (row for row in every_method.args[1] if row.criterion == "salt")


@pytest.mark.parametrize("row", [r for r in every_method.args[1] if takes(r)], ids=lambda r: r.name)
def test_in_float16_a_plain_step_has_the_gradient_s_own_length(
    row: Row,
    noise_by_position: None,  # noqa: F811
) -> None:
    """What scales a sentence's gradient on its way is undone: `sgd` does not divide by it."""
    if "ascent_rule" not in vars(tiny.criterion(row.criterion).cfg):
        options = {"ascent_steps": 2}
    else:
        options = {"ascent_rule": "sgd", "ascent_step_size": 0.05}
        options |= {name: 1 for name in STEPS if name in row.options}
    match, sample = Match(row, **options), tiny.batch()
    with tiny.float64_throughout():
        expected = match.play(sample).delta
    for model in (match.model, match.reference):
        model.half()
    found = match.play(sample).delta
    for side, delta in expected.items():
        start = match.criterion.method.follower.begin(match.game)[0][side]  # type: ignore[union-attr]
        assert (delta - start).norm() > 0.01
        assert (found[side] - delta).norm() < 0.1 * (delta - start).norm()


@every_method
def test_amp_runs_every_pass_of_a_game_in_16_bits(row: Row) -> None:
    model = tiny.transformer(dropout=0.1)
    types: list[torch.dtype] = []
    layer = model.decoder.layers[0].fc1
    layer.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    made = trainer(row, model, "--amp", "--gauge-interval=1")
    for _ in range(3):
        update(made, [tiny.batch()])
    average = 0 if row.criterion != "smart" else 3  # whose model is another
    assert len(types) >= 3 * (2 if row.name != "freeat-task-loss" else 1) - average
    assert set(types) == {torch.bfloat16}


QUICK = ("salt", "freeat-task-loss", "rdrop")
FP16 = ["--fp16", "--fp16-no-flatten-grads"]


def trained(row: Row, data: Path, folder: Path, *options: str) -> list[Tensor]:
    """All trained parameters after five updates in fairseq's trainer."""
    common = [f"--{name.replace('_', '-')}={value}" for name, value in row.options.items()]
    common += [*row.training, "--max-update", "5", "--clip-norm", "1"]
    # The same masks are drawn in all precisions; where two passes differ by these alone, they have
    # to be.
    common += ["--dropout", "0.1" if row.name in ("rdrop", "freeat-divergence") else "0"]
    if row.criterion == "smart" and options[:1] != ("--amp",):
        common += ["--ema-fp32"]
    common += ["--disable-validation", "--optimizer", "sgd", "--lr", "0.5"]
    training.run_training(data, folder, *common, *options, criterion=row.criterion)
    return [p.double() for p in training.parameters(folder).values() if p.dim()]


def assert_near(
    ours: list[Tensor], theirs: list[Tensor], start: list[Tensor], share: float = 0.2
) -> None:
    """The models are much nearer to each other than to where they began."""
    error, moved = (
        sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True)) ** 0.5
        for first, second in ((ours, theirs), (theirs, start))
    )
    assert error < share * moved


@trained_of_kinds(
    {
        "translation": ("salt", "smart", "freelb-task-loss", "freeat-task-loss", "mat", "rdrop"),
        "sentences": QUICK,
    },
    ROWS,
)
def test_it_learns_as_in_float32(row: Row, kind: Any, data: Path, tmp_path: Path) -> None:
    start = trained(row, data, tmp_path / "start", *kind.options, "--lr", "0")
    expected = trained(row, data, tmp_path / "fp32", *kind.options)
    for options in (["--bf16"], FP16, ["--amp"]):
        found = trained(row, data, tmp_path / options[0], *options, *kind.options)
        assert_near(found, expected, start)


@pytest.mark.parametrize("option", ["--memory-efficient-bf16", "--memory-efficient-fp16"])
def test_it_learns_as_in_float32_without_a_copy_in_it(
    option: str, toy_data: Path, tmp_path: Path
) -> None:
    """With Adam: not all of fairseq's optimizers do without the copy."""
    adam = ("--optimizer", "adam", "--adam-eps", "1e-2", "--lr", "1e-2")
    start = trained(SALT, toy_data, tmp_path / "start", *adam, "--lr", "0")
    expected = trained(SALT, toy_data, tmp_path / "fp32", *adam)
    found = trained(SALT, toy_data, tmp_path / "16", *adam, option)
    assert_near(found, expected, start, 0.5)  # parameters in 16 bits lose what is small in updates


PRECISIONS = pytest.mark.parametrize("precision", ["bf16", "fp16", "amp"])


@pytest.mark.parametrize("way", ["central", "one-sided"])
@PRECISIONS
def test_differences_of_gradients_are_refused(way: str, precision: str) -> None:
    criterion = tiny.criterion(unroll_method=way, init_std=1.0, **{precision: True})
    with pytest.raises(SystemExit, match=rf"--unroll-method {way} with --{precision}: .*exact"):
        criterion.check_model(tiny.transformer())
    tiny.criterion(unroll_method=way).check_model(tiny.transformer())


@pytest.mark.parametrize("name", ["salt", "vat", "smart"])
@PRECISIONS
def test_an_ascent_that_begins_in_the_rounding_is_refused(name: str, precision: str) -> None:
    """Where nothing but a tiny start distinguishes the passes."""
    proximal = {"ema_fp32": True} if name == "smart" else {}
    for dropout, masks in ((0.0, "independent"), (0.3, "shared")):
        options = {precision: True, "dropout_masks": masks, **proximal}
        with pytest.raises(SystemExit, match=r"--init-std 0.001 with .*--init-std 0.03 or more"):
            tiny.criterion(name, **options).check_model(tiny.transformer(dropout=dropout))
        tiny.criterion(name, **options, init_std=0.03).check_model(tiny.transformer())
        tiny.criterion(name, dropout_masks=masks).check_model(tiny.transformer())
    met = tiny.criterion(name, **{precision: True}, **proximal)
    met.check_model(tiny.transformer(dropout=0.3))


def test_what_is_refused_is_refused_before_training(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--init-std 0\.001 with .* of --bf16"):
        training.run_training(toy_data, tmp_path, "--bf16", "--dropout-masks", "shared")
