"""Options that fairseq hands to `eval`: they are values, in a checkpoint too, and never code."""

from __future__ import annotations

import ast
import builtins
import importlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import fairseq
import pytest
import torch
from fairseq import utils

from fairseq_adv.trainer import safe_loading
from fairseq_adv.trainer.safe_loading import CheckpointRefused, NotAValue, value_of
from tests.support import training
from tests.trainer.checkpoint_readers import READERS, real_state


def options_with_code(mark: Path) -> dict[str, Any]:
    """The configuration of a convolutional model, whose layers fairseq hands to `eval`."""
    state = real_state()
    model = Namespace(**vars(state["cfg"]["model"]))
    model.arch = model._name = "fconv"
    model.encoder_layers = f"[(8, 3)] * (1 + len([open({str(mark)!r}, 'w')]))"
    model.decoder_layers, model.decoder_attention = "[(8, 3)]", "True"
    model.share_input_output_embed = False
    for name in ("encoder_embed_path", "decoder_embed_path"):
        setattr(model, name, None)
    model.decoder_out_embed_dim = 8
    task = state["cfg"]["task"] | {"source_lang": "de", "target_lang": "en"}
    return state["cfg"] | {"model": model, "task": task}


@pytest.mark.parametrize("reader", ["generate", "evaluate", "calibrate", "export", "translate"])
def test_code_in_the_options_of_a_model_is_refused(
    old_data: Path, tmp_path: Path, reader: str
) -> None:
    """No pickle's code: a string that fairseq would evaluate when it builds the model."""
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save(real_state(cfg=options_with_code(mark)), path)
    read, error = READERS[reader]
    with pytest.raises(error) as refused:
        read(old_data, path, tmp_path)
    assert not mark.exists()
    message = str(refused.value)
    named = "model.pt" if reader == "translate" else "evil.pt"
    assert f'{named}: refused, for it carries code: the option "[(8, 3)] * (1 + len' in message
    assert message.count("\n") <= 1


def test_code_in_options_would_run_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_data: Path
) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save(real_state(cfg=options_with_code(mark)), path)
    monkeypatch.setattr("fairseq.models.fconv.eval", builtins.eval)
    with pytest.raises(CheckpointRefused, match=r"no model can be made of it .*Error"):
        training.translations(old_data / "bin", path)
    assert mark.exists()


def test_no_module_of_fairseq_evaluates_more_than_values() -> None:
    """All that calls `eval`, found in the source."""
    root = Path(fairseq.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("eval", "exec"):
                found.add(".".join(path.relative_to(root).with_suffix("").parts))
    found = {name for name in found if not name.startswith("examples.")}
    assert found == set(safe_loading._EVALUATE)
    for name in found:
        assert importlib.import_module(f"fairseq.{name}").eval is value_of


@pytest.mark.parametrize(
    "text",
    [
        *("[(512, 3)] * 4 + [(768, 3)] * 2", "(0.9, 0.98)", "1e-30", "-3", "3,7,15,31", "True"),
        *("None", "'a'", "[0.1] * 3", "2**-10", "1 / 3", "{'a': [1, (2,)]}", " [1]", "+1 - 2"),
        *("[]", "()", "3 * [True]", "'ab' * 2"),
    ],
)
def test_values_are_what_eval_makes_of_them(text: str) -> None:
    found, expected = value_of(text), builtins.eval(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os').system('true')", "print", "[x for x in (1, 2)]", "lambda: 1", "f'{1}'"),
        *("(1).__class__", "[1][0]", "1 if 1 else 2", "{**{}}", "a := 1", "not 1", "~1", "1 < 2"),
        *("", "(", "1 +", "'a' + 1", "9**9**9", "[0] * 10**9", "10**9 * 'a'", "1 / 0", "\0"),
        *("(" * 5000, "[" * 90 + "]" * 90 + " * 20000", "-'a'", "{[]: 1}"),
    ],
)
def test_what_is_more_than_a_value(text: str) -> None:
    with pytest.raises(NotAValue, match="is not made of numbers, strings, lists and"):
        value_of(text)


def test_fairseqs_own_use_of_values() -> None:
    """It counts on TypeError for what is no string."""
    assert utils.eval_bool("True") is True and utils.eval_bool(True, default=False) is False
    assert utils.eval_str_list("3,7", int) == [3, 7]
    assert utils.eval_str_list("0.25") == [0.25]
