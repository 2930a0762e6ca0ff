"""docs/other-toolkits.md: its program is what it says, by the core's own proof of a gradient."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fairseq_adv.core.backward import Backward
from fairseq_adv.core.comparison.predictions import Logits
from fairseq_adv.core.method import Method
from fairseq_adv.core.methods.adv import Adv
from fairseq_adv.core.methods.freeat import FreeAT
from fairseq_adv.core.methods.freelb import FreeLB
from fairseq_adv.core.methods.rdrop import RDrop
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.simcut import SimCut
from fairseq_adv.core.methods.smart import SMART
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.sites import Delta, Keep
from fairseq_adv.core.two_views import Masks, Regularisation
from tests.core.page import PAGE, PROGRAM, load
from tests.support import processes
from tests.support.gradients import directional_derivative, directions
from tests.support.players import follower
from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The program, imported."""
    path = tmp_path_factory.mktemp("page") / "digits.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return load(path)


@pytest.mark.parametrize("name", ["R-Drop", "SALT"])
def test_its_gradient_is_that_of_its_objective(name: str, page: ModuleType) -> None:
    """In float64, along directions in all parameters; the random numbers are drawn again."""
    torch.manual_seed(1)
    model = page.classifier().double()
    images, labels = page.digits()
    game = page.ImageGame(model, images[:6].double(), labels[:6])

    def play() -> float:
        torch.manual_seed(2)
        step = page.METHODS[name].step(game, Backward(), weight=0.7)
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


def test_two_workers_share_gradients_as_it_says(page: ModuleType, tmp_path: Path) -> None:
    """Each plays on its own images; then both have the sum of what one alone finds of them."""
    program, meeting = tmp_path / "digits.py", processes.rendezvous(tmp_path)
    program.write_text(PROGRAM, encoding="utf-8")
    outputs = [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    started = [
        processes.start("tests.core.page_worker", program, rank, meeting, out)
        for rank, out in enumerate(outputs)
    ]
    processes.end(*started)
    images, labels = page.digits()
    for name, method in page.METHODS.items():
        torch.manual_seed(1)
        model = page.classifier().double()
        for rank in (0, 1):
            torch.manual_seed(rank)
            mine = slice(6 * rank, 6 * rank + 6)
            game = page.ImageGame(model, images[mine].double(), labels[mine])
            method.step(game, Backward(), weight=0.7)
        for found in (torch.load(out)[name] for out in outputs):
            for gradient, parameter in zip(found, model.parameters(), strict=True):
                torch.testing.assert_close(gradient, parameter.grad)


SETTINGS: dict[str, Any] = {
    "sites": ("pixels",),
    "epsilon": 0.3,
    "init_std": 0.001,
    "ascent_steps": 2,
    "ascent_step_size": 0.3,
}
FOLLOWER = follower(**SETTINGS)
STILL = follower(**{**SETTINGS, "init_std": 0.0, "ascent_steps": 1})
MASKS = Masks(dropout_masks="shared")
SHARED = Regularisation(divergence="kl", clean_branch="differentiated", dropout_masks="shared")
DIVERGENCE: dict[str, Any] = {"adv_objective": "divergence", "regularisation": SHARED}
CONTENDERS: dict[str, list[Method]] = {
    "RDrop": [RDrop()],
    "Adv": [Adv(follower=STILL, masks=MASKS)],
    "VAT": [VAT(follower=FOLLOWER, regularisation=SHARED)],
    "SALT": [
        SALT(follower=FOLLOWER, regularisation=SHARED, unroll_steps=2, unroll_method=method)
        for method in ("exact", "central", "one-sided")
    ],
    "FreeLB": [FreeLB(follower=FOLLOWER, **DIVERGENCE)],
    "SMART": [SMART(follower=FOLLOWER, masks=MASKS, proximal_weight=1.0)],
    "FreeAT": [FreeAT(follower=STILL, replays=2, **DIVERGENCE)],
    "SimCut": [SimCut(sites=("pixels",), cutoff_rate=0.5, regularisation=SHARED)],
}


class NoMemory:
    """Of a batch that was not played before."""

    def recall(self) -> Delta | None:
        return None

    def remember(self, delta: Delta) -> None:
        assert set(delta) == {"pixels"}


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_table_of_what_methods_need(name: str, page: ModuleType) -> None:
    """Neither more nor less than what they ask of a game that is implemented in full."""
    used: set[str] = set()
    kinds: set[str] = set()

    class Recorded(page.ImageGame):  # type: ignore[name-defined, misc]
        def __getattribute__(self, member: str) -> Any:
            used.add(member)
            return super().__getattribute__(member)

        def clean(self, edits: Any) -> Logits:
            kinds.update(type(edit).__name__ for edit in edits.values())
            kept = [edit for edit in edits.values() if isinstance(edit, Keep)]
            if not kept:
                return super().clean(edits)  # type: ignore[no-any-return]
            return Logits(self.model(self.images * kept[0].where))

    images, labels = page.digits()
    for method in CONTENDERS[name]:
        for gauges in (False, True):
            game = Recorded(page.classifier(), images[:6], labels[:6])
            beside: dict[str, Any] = {}
            if name == "SMART":
                beside = {"reference": page.ImageGame(page.classifier(), images[:6], labels[:6])}
            elif name == "FreeAT":
                beside = {"memory": NoMemory()}
            used.discard("sites")
            method.step(game, Backward(), weight=0.5, gauges=gauges, **beside)
    members = {"parameters", "sentences", "sites", "task_loss", "clean", "perturbed", "comparison"}
    assert (used & members, kinds) == needed(name)


def needed(name: str) -> tuple[set[str], set[str]]:
    """What the page says: members of the game, and edits."""
    (row,) = re.findall(rf"^\|[^|]*`{name}`[^|]*\|(.*)\|(.*)\|$", PAGE, re.M)
    members = set(re.findall(r"`(\w+)`", row[0])) - {"step", "reference", "memory"}
    return {"clean", "perturbed", "task_loss", *members}, set(re.findall(r"`(\w+)`", row[1]))


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
