"""The presets: options that exist, and what is said of them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from fairseq import options

from recipes.comparison.contenders import contender, read_preset
from recipes.support.errors import RecipeError
from tests.support import training
from tests.support.processes import ROOT

PRESETS = sorted(ROOT.glob("recipes/presets/*.txt"))


def words(preset: Path) -> list[str]:
    """The options in a preset, as the shell would split them."""
    lines = preset.read_text("utf-8").splitlines()
    return [word for line in lines for word in line.split("#")[0].split()]


def parsed(*more: str) -> Namespace:
    parser = options.get_training_parser()
    arguments = ["nowhere", "--user-dir", training.USER_DIR, "--task", "adversarial_translation"]
    arguments += ["--arch", "transformer", "--criterion", "salt", *more]
    return options.parse_args_and_arch(parser, input_args=arguments)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_made_of_known_options(preset: Path) -> None:
    """And it is named after its method."""
    method = preset.stem.split("-")[0]
    criterion = "label_smoothed_cross_entropy" if method == "transformer" else method
    assert parsed(*words(preset)).criterion == criterion


def test_salts_preset_is_the_default_with_less_weight_and_fewer_games() -> None:
    (active,) = (preset for preset in PRESETS if preset.stem == "salt")
    back = ["--adv-weight", "1.0", "--adv-interval", "1"]
    words_of_all = ["--perturb", "both"]  # which is what translation has
    assert vars(parsed(*words(active), *back)) == vars(parsed(*words_of_all))


def test_the_papers_preset_has_the_papers_numbers() -> None:
    """Table 8, De-En: lr_follower, sigma, epsilon, K."""
    (paper,) = (preset for preset in PRESETS if preset.stem == "salt-paper")
    options = parsed(*words(paper))
    assert (options.ascent_step_size, options.init_std, options.epsilon) == (1e-4, 1e-4, 0.3)
    assert options.ascent_steps == 1
    assert (str(options.norm), str(options.norm_scope)) == ("l2", "sentence")


@pytest.mark.parametrize("name", ["", "../presets/salt", "/salt", "salt\0", "x" * 300, "."])
def test_a_name_that_no_preset_has(name: str) -> None:
    """As found by fuzzing: one that is too long for a file."""
    with pytest.raises(RecipeError, match=r"is not a preset; there are adv, "):
        contender(name)


@pytest.mark.parametrize("content", [b"--norm 'l2", b"--criterion salt # Gr\xf6\xdfe"])
def test_what_is_no_preset_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(RecipeError, match=r"own\.txt: no options of fairseq-train, as text"):
        read_preset(tmp_path / "own.txt")
