"""Options that are made from the settings of core, and methods that are made from options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pytest

from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.players.start import AtRest, Gaussian
from fairseq_adv.core.settings import means
from fairseq_adv.criterions.common.options import ASCENT, COMPARED, build, follower, options, sites
from tests.support import tiny


@dataclass(frozen=True)
class Inner:
    """A part."""

    kind: Literal["one", "two"] = field(metadata=means("which of them"))


@dataclass(frozen=True)
class Outer:
    """What consists of a part, and of something that is no option."""

    inner: Inner
    size: float = field(metadata=means("how large"))
    steps: int | None = field(metadata=means("how many"))
    names: tuple[str, ...]


def test_a_setting_is_an_option_of_its_name_type_and_meaning() -> None:
    made = {f.name: f for f in fields(options("MadeConfig", Outer, kind="two", size=0.5, steps=3))}
    assert {"kind", "size", "steps", "adv_weight", "perturb"} <= made.keys()
    assert not {"inner", "names"} & made.keys()
    assert [str(kind) for kind in made["kind"].type] == ["one", "two"]
    assert made["size"].default == 0.5 and made["size"].metadata["help"] == "how large"


def test_defaults_of_inherited_options_keep_their_meaning() -> None:
    meanings = [
        {f.name: f for f in fields(options("MadeConfig", **more))}["adv_weight"]
        for more in ({}, {"adv_weight": 5.0})
    ]
    assert [found.default for found in meanings] == [1.0, 5.0]
    assert meanings[0].metadata["help"] == meanings[1].metadata["help"]


def test_a_name_that_is_none_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="MadeConfig: there is no setting epsilom"):
        options("MadeConfig", Ball, epsilom=1.0)
    with pytest.raises(TypeError, match="Ball has no radius"):
        build(Ball, tiny.criterion().cfg, radius=1.0)


def test_a_method_is_built_in_depth() -> None:
    """Of options as fairseq gives them, strings that are enumerations among them."""
    changed: dict[str, Any] = {"epsilon": 0.7, "ascent_rule": "sgd", "divergence": "kl"}
    cfg = tiny.criterion(**changed, perturb="target", init_std=0.2).cfg
    player = follower(cfg, ("source",))
    method = build(VAT, cfg, follower=player)
    assert sites(cfg, ("source",)) == player.sites == ("target",)
    cfg.perturb = None
    assert sites(cfg, ("source",)) == ("source",)
    assert player.ball == Ball(epsilon=0.7, norm="l2", norm_scope="sentence")
    assert player.start == Gaussian(init_std=0.2) and player.rule.ascent_rule == "sgd"
    assert type(player.rule.ascent_rule) is str
    assert method.regularisation.divergence == "kl"
    assert follower(cfg, (), start=AtRest(), ascent_steps=4).ascent_steps == 4
    assert {f.name for f in fields(options("SALTConfig", SALT, Gaussian, **ASCENT, **COMPARED))} > {
        *ASCENT,
        *COMPARED,
    }
