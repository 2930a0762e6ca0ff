"""What do 16 bits cost a gradient? Each method in each precision, against float64.

    python -m benchmarks.precision DATA --path CHECKPOINT --out FOLDER

Plays each batch in float64 and in the precisions of fairseq's trainer, with the same dropout masks
and from the same random start, and compares the accumulated gradients, free of the loss scale, as
the optimizer gets them. Prints the relative distance: the median over batches, and the worst; also
that of SALT's leader-follower term and of SMART's proximal term alone, relative to their own size.
SMART's average model is the trained one with each parameter moved by a hundredth of its matrix's
size, and in 16 bits where the model is, as `--ema-fp32` casts it. On a GPU if there is one (whose
dropout masks differ by precision: there, mind the rows without dropout).
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from fairseq import utils
from fairseq.modules import FairseqDropout
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from torch import Tensor
from tqdm import tqdm

from benchmarks.support.trained import Trained, load, parser
from fairseq_adv.core.comparison.evaluation import evaluate
from fairseq_adv.core.comparison.softmax import Divergence
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Interacts
from fairseq_adv.core.players.start import Gaussian, Uniform
from fairseq_adv.criterions.smart import SMARTCriterion
from fairseq_adv.games.translation import TranslationGame
from fairseq_adv.tasks.optimizer_backward import OptimizerBackward
from recipes.support.markdown import markdown_table
from tests.support.tiny import float64_throughout

PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,  # --bf16, --memory-efficient-bf16
    "fp16": torch.float16,  # --fp16, --memory-efficient-fp16
    "amp": torch.float32,
}
PAPER = {  # recipes/presets/salt-paper.txt
    "epsilon": 0.3,
    "init_std": 1e-4,
    "ascent_step_size": 1e-4,
    "ascent_rule": "sgd",
}
AVERAGE = {"store_ema": True, "ema_fp32": True}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("salt", {"adv_weight": 0.0}),
    "SALT": ("salt", {}),
    "SALT, K = 2": ("salt", {"ascent_steps": 2}),
    "SALT, the paper's settings": ("salt", PAPER),
    "SALT, no dropout": ("salt", {}),
    "SALT, the paper's settings, no dropout": ("salt", PAPER),
    "SALT, --init-std 0.03, no dropout": ("salt", {"init_std": 0.03}),
    "SALT, --init-std 1e-4, no dropout": ("salt", {"init_std": 1e-4}),
    "SALT, --init-std 1e-5, no dropout": ("salt", {"init_std": 1e-5}),
    "SALT, central": ("salt", {"unroll_method": "central"}),
    "SALT, one-sided": ("salt", {"unroll_method": "one-sided"}),
    "VAT": ("vat", {}),
    "SMART": ("smart", AVERAGE),
    "SMART, the proximal term alone": ("smart", {**AVERAGE, "adv_weight": 0.0}),
    "Adv": ("adv", {}),
    "FreeLB": ("freelb", {}),
    "FreeAT": ("freeat", {}),
    "R3F": ("r3f", {}),
    "R-Drop": ("rdrop", {}),
    "SimCut": ("simcut", {}),
}


class Scaled:
    """An optimizer as far as a backward pass goes: fairseq's loss scale, or none."""

    def __init__(self, scale: float | None) -> None:
        self.scaler = None if scale is None else DynamicLossScaler(init_scale=scale)

    def backward(self, loss: Tensor) -> None:
        """As fairseq's optimizers do."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()


@dataclass(frozen=True)
class Comparison:
    """One method in one precision: relative distances from float64, over the batches."""

    method: str
    precision: str
    median: float
    worst: float
    term: float | None


@contextmanager
def same_start() -> Iterator[None]:
    """Draw random starts in float32, whatever the model's precision is."""
    gaussian, uniform = Gaussian.draw, Uniform.draw

    def drawn(start: Any, site: Any, ball: Any, how: Any) -> Tensor:
        narrow = SimpleNamespace(zero=site.zero.to(torch.float32), mask=site.mask)
        return how(start, narrow, ball).to(site.zero.dtype)

    with (
        patch.object(
            Gaussian, "draw", lambda start, site, ball: drawn(start, site, ball, gaussian)
        ),
        patch.object(Uniform, "draw", lambda start, site, ball: drawn(start, site, ball, uniform)),
    ):
        yield


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """Nothing is dropped out: the follower has only its own start to ascend from."""
    modules = [module for module in model.modules() if isinstance(module, FairseqDropout)]
    rates = [module.p for module in modules]
    for module in modules:
        module.p = 0.0
    try:
        yield
    finally:
        for module, rate in zip(modules, rates, strict=True):
            module.p = rate


Play = Callable[[Game, OptimizerBackward, dict[str, Any]], object]
"""What accumulates a gradient: of a game, with what the method asks for beside it."""


def whole(criterion: Any) -> Play:
    """All that an update accumulates."""
    weight, method = criterion.weight(0), criterion.method_in(0)
    if not criterion.plays(0):
        return lambda game, backward, _: backward(evaluate(game.task_loss(game.clean({}))))
    return lambda game, backward, beside: method.step(game, backward, weight=weight, **beside)


def term(criterion: Any) -> Play | None:
    """What is looked at by itself: SALT's leader-follower term, or SMART's proximal one."""
    weight, method = criterion.weight(0), criterion.method
    if isinstance(method, Interacts) and criterion.plays(0):
        return lambda game, backward, _: method.interaction(game, backward, weight=weight)
    if isinstance(criterion, SMARTCriterion):

        def proximal(game: Game, backward: OptimizerBackward, beside: dict[str, Any]) -> None:
            with torch.no_grad():
                earlier = beside["reference"].clean({}).detached()
            backward(evaluate(Divergence(earlier, game.clean({}), "symmetric-kl")))

        return proximal
    return None


def moved(model: Any) -> Any:
    """A model near this one, in place of an average of earlier ones."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter += 0.01 * parameter.norm() * noise / noise.norm()
    return other.requires_grad_(False)


def gradient(
    trained: Trained,
    reference: Any,
    criterion: Any,
    play: Play,
    sample: dict[str, Any],
    precision: str | None,
) -> Tensor:
    """The accumulated gradient of all parameters, in float64; None is float64 throughout."""
    kind = torch.float64 if precision is None else PRECISIONS[precision]
    model, reference = trained.model.to(kind), copy.deepcopy(reference).to(kind)
    on_gpu = next(model.parameters()).is_cuda
    scale = 2.0**15 if precision == "fp16" or (precision == "amp" and on_gpu) else None
    while True:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        backward = OptimizerBackward(Scaled(scale), ignore_grad=False)  # type: ignore[arg-type]
        amp = precision == "amp"
        game = TranslationGame(model, sample, criterion.plain, autocast=amp)
        beside = criterion.beside(game, reference_model=reference, memory=None)
        play(game, backward, beside)
        found = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).double().flatten().cpu()
                for p in model.parameters()
            ]
        )
        if scale is None or bool(torch.isfinite(found).all()) or scale < 2**-10:
            return found / (scale or 1.0)
        scale /= 2  # an update that fairseq would skip


def compare(trained: Trained, name: str) -> list[Comparison]:
    """One method in all precisions."""
    criterion_name, options = ROWS[name]
    criterion = trained.criterion(criterion_name, **options)
    parameters = {n: p.detach().double().cpu() for n, p in trained.model.named_parameters()}
    errors: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    parts: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    reference, alone = moved(trained.model.double()), term(criterion)
    for sample in trained.batches:
        exact, exact_part = None, None
        for precision in (None, *PRECISIONS):
            with torch.no_grad():  # what the 16 bits of the one before have rounded
                trained.model.to(torch.float64)
                for n, p in trained.model.named_parameters():
                    p.copy_(parameters[n])
            given = (trained, reference, criterion)
            found = gradient(*given, whole(criterion), sample, precision)
            part = None if alone is None else gradient(*given, alone, sample, precision)
            if precision is None:
                exact, exact_part = found, part
                continue
            assert exact is not None
            errors[precision].append(float((found - exact).norm() / exact.norm()))
            if part is not None and exact_part is not None:
                parts[precision].append(float((part - exact_part).norm() / exact_part.norm()))
    return [
        Comparison(
            name,
            precision,
            statistics.median(errors[precision]),
            max(errors[precision]),
            statistics.median(parts[precision]) if parts[precision] else None,
        )
        for precision in PRECISIONS
    ]


def main() -> None:
    """Measure, print a table, and write it down."""
    options = parser(__doc__)
    options.set_defaults(batches=20, max_tokens=150)
    options.add_argument("--out", type=Path, required=True, help="folder for precision.json")
    arguments = options.parse_args()
    trained = load(arguments)
    if torch.cuda.is_available():
        trained.model.cuda()
        trained.batches[:] = [utils.move_to_cuda(batch) for batch in trained.batches]
    found: list[Comparison] = []
    with same_start(), float64_throughout():
        for name in tqdm(ROWS, "methods"):
            if name.endswith("no dropout"):
                with without_dropout(trained.model):
                    found += compare(trained, name)
            else:
                found += compare(trained, name)
            tqdm.write("; ".join(f"{c.method} {c.precision} {c.median:.1e}" for c in found[-4:]))
    rows = [("method", "precision", "median", "worst", "term alone")]
    for c in found:
        part = "" if c.term is None else f"{c.term:.1e}"
        rows.append((c.method, c.precision, f"{c.median:.1e}", f"{c.worst:.1e}", part))
    print(markdown_table(rows))
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = {"device": device, "batches": len(trained.batches), "rows": [vars(c) for c in found]}
    (arguments.out / "precision.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
