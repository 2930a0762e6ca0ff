"""docs/other-toolkits.md: its program is what it says, by the core's own proof of a gradient."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.adv_objective import Regularisation
from fairseq_adv.core.backward import Backward
from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Delta, Method
from fairseq_adv.core.methods.adv import Adv
from fairseq_adv.core.methods.freeat import FreeAT
from fairseq_adv.core.methods.freelb import FreeLB
from fairseq_adv.core.methods.rdrop import RDrop
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.simcut import SimCut
from fairseq_adv.core.methods.smart import SMART
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.predictions import Predictions
from tests.support.gradients import directional_derivative, directions
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "other-toolkits.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The program, imported."""
    path = tmp_path_factory.mktemp("page") / "digits.py"
    path.write_text(PROGRAM, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("digits", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["R-Drop", "SALT"])
def test_its_gradient_is_that_of_its_objective(name: str, page: ModuleType) -> None:
    """In float64, along directions in all parameters; the random numbers are drawn again."""
    torch.manual_seed(1)
    model = page.classifier().double()
    images, labels = page.digits()
    game = page.ImageGame(model, images[:6].double(), labels[:6])

    def play() -> float:
        torch.manual_seed(2)
        accumulate = Backward()
        step = page.METHODS[name].step(game, accumulate, weight=0.7)
        step.finish(accumulate)
        return float(step.objective)

    play()
    gradient = [parameter.grad.clone() for parameter in model.parameters()]
    for direction in directions(model):
        expected = directional_derivative(play, model, direction)
        ours = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
        assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["R-Drop", "SALT"])
def test_it_learns(name: str, page: ModuleType) -> None:
    torch.manual_seed(1)
    images, labels = page.digits()
    model = page.classifier()
    objectives = page.train(model, images[:200], labels[:200], page.METHODS[name], updates=60)
    assert objectives[0] > 2.2  # log 10 is chance
    assert sum(objectives[-5:]) / 5 < 0.7 * objectives[0]
    assert float((model.eval()(images[200:]).argmax(1) == labels[200:]).double().mean()) > 0.5


FOLLOWER = Follower(
    perturb="source",
    epsilon=0.3,
    norm="l2",
    norm_scope="sentence",
    init_std=0.001,
    ascent_steps=2,
    ascent_step_size=0.3,
    ascent_rule="normalized",
)
STILL = Follower(**{**vars(FOLLOWER), "init_std": 0.0, "ascent_steps": 1})
SHARED = Regularisation(divergence="kl", clean_branch="differentiated", dropout_masks="shared")
CONTENDERS: dict[str, list[Method]] = {
    "RDrop": [RDrop()],
    "Adv": [Adv(follower=STILL, dropout_masks="shared")],
    "VAT": [VAT(follower=FOLLOWER, regularisation=SHARED)],
    "SALT": [
        SALT(follower=FOLLOWER, regularisation=SHARED, unroll_steps=2, unroll_method=method)
        for method in ("exact", "central", "one-sided")
    ],
    "FreeLB": [FreeLB(follower=FOLLOWER, objective="divergence", regularisation=SHARED)],
    "SMART": [SMART(follower=FOLLOWER, dropout_masks="shared", proximal_weight=1.0)],
    "FreeAT": [FreeAT(follower=STILL, objective="task-loss", regularisation=SHARED)],
    "SimCut": [SimCut(perturb="source", cutoff_rate=0.5, regularisation=SHARED)],
}


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_table_of_what_methods_need(name: str, page: ModuleType) -> None:
    """Neither more nor less than what they ask of a game that is implemented in full."""
    used: set[str] = set()

    class Recorded(page.ImageGame):  # type: ignore[name-defined, misc]
        def __getattribute__(self, member: str) -> Any:
            used.add(member)
            return super().__getattribute__(member)

        def cut(self, keep: dict[str, Tensor], masks: Any) -> Predictions:
            with masks.replay():
                left = self.images * keep["source"].unsqueeze(-1) if keep else self.images
                return Predictions(self.model(left))

        def reference(self) -> Predictions:
            with torch.no_grad():
                return Predictions(self.model(self.images))

        def recall(self) -> Delta | None:
            return None

        def remember(self, delta: Delta) -> None:
            pass

    images, labels = page.digits()
    for method in CONTENDERS[name]:
        for gauges in (False, True):
            game = Recorded(page.classifier(), images[:6], labels[:6])
            step = method.step(game, accumulate := Backward(), weight=0.5, gauges=gauges)
            step.finish(accumulate)
    members = {"parameters", "sentences", "zero_delta", "non_pad", "task_loss", "clean"}
    members |= {"clean_masks", "perturbed", "cut", "reference", "recall", "remember"}
    assert used & members == needed(name)


def needed(name: str) -> set[str]:
    """What the page says."""
    (row,) = re.findall(rf"^\|[^|]*`{name}`[^|]*\|(.*)\|$", PAGE, re.M)
    members = {"task_loss", *re.findall(r"`(\w+)`", row)}
    return members | (needed("VAT") if "these five" in row else set())


@pytest.mark.slow
def test_it_prints_what_it_says(tmp_path: Path) -> None:
    """But for other random numbers on another machine."""
    (tmp_path / "digits.py").write_text(PROGRAM, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "digits.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (shown,) = re.findall(r"^It prints\n\n```\n(.*?)^```$", PAGE, re.M | re.S)
    number = re.compile(r"[\d.]+(?= %|;|,)")
    assert number.sub("#", run.stdout) == number.sub("#", shown)
    for printed, written in zip(number.findall(run.stdout), number.findall(shown), strict=True):
        assert float(printed) == pytest.approx(float(written), rel=0.1, abs=0.05)
