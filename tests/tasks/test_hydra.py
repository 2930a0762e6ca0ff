"""`fairseq-hydra-train` with recipes/config/salt.yaml: the real command, on a toy language."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.methods.method_table import ROWS, Row
from tests.recipes.test_presets import words
from tests.support import training
from tests.support.processes import ROOT
from tests.support.updates import options_of

CONFIG = ROOT / "recipes" / "config"

SMALL = [
    *("common.cpu=true", "dataset.num_workers=0", "dataset.max_tokens=60"),
    *("optimization.max_update=4", "model._name=transformer", "model.dropout=0.1"),
    *(f"+model.{part}_layers=1" for part in ("encoder", "decoder")),
    *(f"+model.{part}_embed_dim=16" for part in ("encoder", "decoder")),
    *(f"+model.{part}_ffn_embed_dim=16" for part in ("encoder", "decoder")),
    *(f"+model.{part}_attention_heads=2" for part in ("encoder", "decoder")),
]
THE_SAME = [
    *("--lr", "1e-3", "--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4000"),
    *("--adam-betas", "(0.9, 0.98)", "--weight-decay", "1e-4", "--seed", "1"),
    *("--ddp-backend", "legacy_ddp"),
]


def hydra_train(data: Path, save_dir: Path, *overrides: str, config: Path = CONFIG) -> Any:
    """The command that docs/options.md gives, from the root of the repository, on a tiny model."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "fairseq_cli.hydra_train"),
            *("--config-dir", str(config), "--config-name", "salt", f"task.data={data}"),
            *(*SMALL, f"checkpoint.save_dir={save_dir}", *overrides),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def same_parameters(first: Path, second: Path) -> bool:
    one, other = training.parameters(first), training.parameters(second)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_it_trains_as_fairseq_train_does(toy_data: Path, tmp_path: Path) -> None:
    """The same options, the same model to the last bit."""
    result = hydra_train(toy_data, tmp_path / "hydra")
    assert result.returncode == 0, result.stderr
    preset = words(ROOT / "recipes" / "presets" / "salt.txt")
    training.run_training(toy_data, tmp_path / "cli", *preset, *THE_SAME)
    assert same_parameters(tmp_path / "hydra", tmp_path / "cli")
    log = (tmp_path / "hydra" / "hydra_train.log").read_text(encoding="utf-8")
    assert "| adv_gain " in log and "| num_updates 4 " in log


@pytest.mark.slow
def test_a_classifier_trains_as_by_fairseq_train(toy_sentences: Path, tmp_path: Path) -> None:
    """The options of the plain criterion are the task's."""
    config = yaml.safe_load((CONFIG / "salt.yaml").read_text(encoding="utf-8"))
    del config["task"]["label_smoothing"], config["criterion"]["perturb"]
    config["task"] |= {
        **{"_name": "adversarial_sentence_prediction", "num_classes": 2, "init_token": 0},
        **{"max_positions": 30, "report_mcc": True},
    }
    config["model"] = {"_name": "roberta", "dropout": 0.1, "max_positions": 30}
    sizes = {"layers": 1, "embed_dim": 16, "ffn_embed_dim": 16, "attention_heads": 2}
    config["model"] |= {f"encoder_{name}": size for name, size in sizes.items()}
    (tmp_path / "salt.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    small = [override for override in SMALL if "model" not in override]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", str(tmp_path)),
            *("--config-name", "salt", f"task.data={toy_sentences}", *small),
            f"checkpoint.save_dir={tmp_path / 'hydra'}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    preset = words(ROOT / "recipes" / "presets" / "salt.txt")
    sides = preset.index("--perturb")
    options = [*training.SENTENCES, "--report-mcc", *preset[:sides], *preset[sides + 2 :]]
    training.run_training(toy_sentences, tmp_path / "cli", *options, *THE_SAME)
    assert same_parameters(tmp_path / "hydra", tmp_path / "cli")


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_method_has_a_configuration(row: Row, toy_data: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((CONFIG / "salt.yaml").read_text(encoding="utf-8"))
    config["criterion"] = {"_name": row.criterion, **row.options}
    if row.criterion == "smart":
        config["ema"] = {"store_ema": True, "ema_decay": 0.9}
    (tmp_path / "salt.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = hydra_train(toy_data, tmp_path / "hydra", config=tmp_path)
    assert result.returncode == 0, result.stderr
    options = [*options_of(row), *THE_SAME]
    training.run_training(toy_data, tmp_path / "cli", *options, criterion=row.criterion)
    assert same_parameters(tmp_path / "hydra", tmp_path / "cli")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("criterion.norm=l1", "criterion.norm: Invalid value 'l1', expected one of [l2, linf]"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("optimization.use_bmuf=true", "--use-bmuf: workers' models differ"),
                ("criterion.epsilon=-1", "--epsilon -1.0: allowed is a number from 0 up"),
                ("criterion.epsilon=much", "criterion.epsilon: Value 'much' of type 'str'"),
                ("+criterion.epsilonn=1", "criterion.epsilonn: Key 'epsilonn' not in 'SALTConfig'"),
                ("+criterion.unroll_steps=2", "--unroll-steps 2: allowed is 0 to 1"),
                ("distributed_training.ddp_backend=fully_sharded", "--ddp-backend fully_sharded"),
                ("+model.checkpoint_activations=true", "--checkpoint-activations"),
                (
                    "task._name=translation ~task.label_smoothing",
                    "--criterion salt needs --task adversarial_translation",
                ),
            )
        ),
    ],
)
def test_a_wrong_value_ends_in_one_line(
    override: str, message: str, toy_data: Path, tmp_path: Path
) -> None:
    result = hydra_train(toy_data, tmp_path, *override.split())
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"fairseq_adv: {message}")
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.pt"))
