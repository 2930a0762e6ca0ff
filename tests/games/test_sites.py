"""The table of sites: what holds of every place of attack, on every model that has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Add, Keep, Replace
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.games.sites import SITES, UnsupportedModel, register_site
from tests.methods.method_table import MODELS
from tests.support import tiny


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def has(model: str, site: str) -> bool:
    try:
        SITES[site].check(MODELS[model]())
    except UnsupportedModel:
        return False
    return True


@pytest.fixture(params=[(s, m) for s in SITES for m in MODELS if has(m, s)], ids="-".join)
def played(request: pytest.FixtureRequest) -> tuple[str, FairseqGame]:
    """A site's name, and a game on a padded batch whose model has it."""
    site, name = request.param
    family = MODELS[name].family
    model = MODELS[name](dropout=0.2).double()
    return site, family.game(model, family.batch(((5, 4), (3, 6), (2, 3))), attacked=(site,))


@pytest.mark.parametrize("site", SITES)
def test_some_model_has_it(site: str) -> None:
    """Else nothing below would be tested of it; and what is no such model has not."""
    assert any(has(model, site) for model in MODELS)
    with pytest.raises(UnsupportedModel):
        SITES[site].check(torch.nn.Linear(1, 1))


def drawn(game: FairseqGame, site: str) -> Tensor:
    """A perturbation of what there is."""
    torch.manual_seed(1)
    return torch.randn_like(game.sites[site].zero) * game.sites[site].mask


def logits(game: FairseqGame, **edits: Any) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        return game.perturbed(edits, RandomState.capture()).keep({}).vectors


def test_zero_and_mask_are_of_the_batch(played: tuple[str, FairseqGame]) -> None:
    site, game = played
    zero, mask = game.sites[site].zero, game.sites[site].mask
    assert zero.size(0) == 3 and zero.dim() == 3 and not zero.any()
    assert zero.dtype == torch.float64 and mask.dtype == torch.bool
    assert torch.broadcast_shapes(zero.shape, mask.shape) == zero.shape
    for sentence in range(3):
        assert mask[sentence].any(), "there is something to perturb in each"


def test_edits_that_change_nothing_do_so(played: tuple[str, FairseqGame]) -> None:
    site, game = played
    clean, whole = logits(game), game.sites[site].mask | True
    assert torch.equal(logits(game, **{site: Add(game.sites[site].zero)}), clean)
    assert torch.equal(logits(game, **{site: Keep(whole)}), clean)
    part = torch.rand(game.sites[site].zero.shape) < 0.5  # also component by component
    assert not torch.allclose(logits(game, **{site: Keep(part)}), clean)
    assert not torch.allclose(logits(game, **{site: Add(drawn(game, site))}), clean)


def test_sentences_are_perturbed_each_for_itself(played: tuple[str, FairseqGame]) -> None:
    site, game = played
    delta, clean = drawn(game, site), logits(game)
    delta[1:] = 0
    changed = (logits(game, **{site: Add(delta)}) != clean).any(1)
    assert changed[game.sentences() == 0].any() and not changed[game.sentences() != 0].any()


@pytest.mark.parametrize("edit", [Add, Replace])
def test_its_gradient_is_its_derivative(edit: Any, played: tuple[str, FairseqGame]) -> None:
    site, game = played
    torch.manual_seed(3)
    masks, delta = RandomState.draw(), drawn(game, site)

    def value(delta: Tensor) -> Tensor:
        return game.perturbed({site: edit(delta)}, masks).vectors.sin().sum()

    leaf = (0.1 * delta).requires_grad_()
    value(leaf).backward()  # type: ignore[no-untyped-call]
    h = 1e-5
    with torch.no_grad():
        expected = (value(leaf + h * delta) - value(leaf - h * delta)) / (2 * h)
    assert leaf.grad is not None
    torch.testing.assert_close((leaf.grad * delta).sum(), expected, rtol=1e-4, atol=1e-6)


def test_a_name_is_of_one_site() -> None:
    for name, site in SITES.items():
        with pytest.raises(ValueError, match=f"a site called {name} already: {site.__name__}"):
            register_site(name)(site)


def test_nothing_stays_behind(played: tuple[str, FairseqGame]) -> None:
    site, game = played

    def hooks() -> int:
        modules = game.model.modules()
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    before, clean = hooks(), logits(game)
    logits(game, **{site: Add(drawn(game, site))})
    assert hooks() == before and torch.equal(logits(game), clean)
    with pytest.raises(RuntimeError):
        logits(game, **{site: Add(torch.zeros(1, 1, 3, dtype=torch.float64))})  # does not fit
    assert hooks() == before
