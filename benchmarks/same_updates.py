"""Whether a change leaves every method's updates as they were, to the last bit.

    python benchmarks/same_updates.py REVISION

trains tiny models for some updates by every method and option with the code of that revision and
with the code as it is, and compares parameters and what was logged. For reshaping: a change of the
mathematics differs, and so does another processor from this one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UPDATES = 20

ASCENT = ["--ascent-steps=2", "--init-std=0.05", "--ascent-step-size=0.3", "--epsilon=0.35"]
BALL = ["--epsilon=0.35", "--ascent-step-size=0.3"]
AVERAGE = ["--store-ema", "--ema-decay=0.9"]
METHODS = {
    "label_smoothed_cross_entropy": [],
    "salt": ASCENT,
    "vat": ASCENT,
    "smart": [*ASCENT, "--proximal-weight=0.4", *AVERAGE],
    "mat": [*BALL, "--init-std=0.05", "--thermal-noise=0.01"],
    "adv": ["--epsilon=0.35"],
    "freelb": [*BALL, "--ascent-steps=3"],
    "freeat": [*BALL, "--replays=3"],
    "r3f": [],
    "rdrop": [],
    "simcut": ["--cutoff-rate=0.3"],
}
"""Options with which perturbations leave the ball in some sentences and not in others."""

PERTURBS = ("salt", "vat", "smart", "mat", "adv", "freelb", "freeat", "r3f", "simcut")
BALLS = ("salt", "vat", "smart", "mat", "adv", "freelb", "freeat")
STEPS = ("salt", "vat", "smart", "mat", "freeat")
COMPARES = ("salt", "vat", "mat", "freelb", "freeat", "r3f", "simcut")
EVERY = tuple(METHODS)
GAMES = EVERY[1:]

VARIATIONS: list[tuple[tuple[str, ...], list[str]]] = [
    (EVERY, []),
    (EVERY, ["--update-freq=2"]),
    (EVERY, ["--ddp-backend=pytorch_ddp", "--sentence-avg"]),
    (EVERY, ["--bf16"]),
    (EVERY, ["--amp"]),
    (EVERY, ["--arch=lstm", "--encoder-embed-dim=16", "--decoder-embed-dim=16"]),
    (
        EVERY,
        [
            *["--arch=fconv", "--encoder-embed-dim=16", "--decoder-embed-dim=16"],
            *["--encoder-layers=[(16, 3)]", "--decoder-layers=[(16, 3)]"],
            "--decoder-out-embed-dim=16",
        ],
    ),
    (EVERY, ["--share-all-embeddings", "--ignore-prefix-size=1", "--report-accuracy"]),
    (EVERY, ["--label-smoothing=0", "--clip-norm=0.1"]),
    (GAMES, ["--adv-weight=0.3", "--adv-warmup-updates=10"]),
    (GAMES, ["--adv-parts=3"]),
    (GAMES, ["--gauge-interval=0"]),
    (GAMES, ["--gauge-interval=1"]),
    (tuple(m for m in GAMES if m not in ("freeat", "mat")), ["--adv-interval=3"]),
    (PERTURBS, ["--perturb=source"]),
    (PERTURBS, ["--perturb=target"]),
    (BALLS, ["--norm=linf", "--epsilon=0.1"]),
    (BALLS, ["--norm-scope=token"]),
    (BALLS, ["--norm=linf", "--norm-scope=token"]),
    (STEPS, ["--ascent-rule=sgd"]),
    (STEPS, ["--ascent-rule=sign"]),
    (("salt", "vat", "smart"), ["--ascent-rule=adam"]),
    (tuple(m for m in GAMES if m != "rdrop"), ["--dropout-masks=shared"]),
    (COMPARES, ["--divergence=kl", "--clean-branch=detached"]),
    (COMPARES, ["--divergence=symmetric-kl", "--clean-branch=differentiated"]),
    (("freelb", "freeat"), ["--adv-objective=divergence"]),
    (("freelb", "freeat"), ["--adv-objective=task-loss", "--adv-weight=0.6"]),
    (("salt",), ["--unroll-steps=1"]),
    (("salt",), ["--unroll-steps=0"]),
    (("salt",), ["--unroll-method=central"]),
    (("salt",), ["--unroll-method=one-sided"]),
    (("salt",), ["--unroll-method=one-sided", "--clean-branch=detached", "--ascent-rule=adam"]),
    (("salt",), ["--unroll-method=central", "--ascent-rule=adam", "--adv-parts=2"]),
    (("salt",), ["--ascent-rule=adam", "--norm=linf", "--divergence=kl"]),
    (("smart",), ["--proximal-weight=0"]),
    (("smart",), ["--adv-weight=0"]),
    (("simcut",), ["--cutoff-rate=0"]),
]


def cases() -> list[list[str]]:
    """Return the options of each training, the criterion first."""
    found = []
    for methods, options in VARIATIONS:
        for method in methods:
            used = list(options)
            if "--bf16" in used or "--amp" in used:
                used += ["--ema-fp32"] if method == "smart" else []
            found.append([method, *METHODS[method], *used])
    return found


def make_data(folder: Path) -> Path:
    """Return binarised pairs of a toy language: the target is the source in reverse."""
    from fairseq import options
    from fairseq_cli import preprocess

    rng = random.Random(1)
    with (folder / "train.a").open("w") as source, (folder / "train.b").open("w") as target:
        for _ in range(60):
            words = [f"w{rng.randrange(20)}" for _ in range(rng.randint(1, 7))]
            print(*words, file=source)
            print(*reversed(words), file=target)
    files = ["-s", "a", "-t", "b", "--trainpref", str(folder / "train"), "--joined-dictionary"]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([*files, "--destdir", str(folder / "bin")]))
    return folder / "bin"


def arguments(data: Path, criterion: str, *more: str) -> list[str]:
    """Return the command line of one training."""
    sizes = [
        f"--{part}-{name}={value}"
        for part in ("encoder", "decoder")
        for name, value in (
            ("layers", 1),
            ("embed-dim", 16),
            ("ffn-embed-dim", 16),
            ("attention-heads", 2),
        )
    ]
    model = [] if any(o.startswith("--arch") for o in more) else ["--arch=transformer", *sizes]
    return [
        *[str(data), "--user-dir=fairseq_adv", "--task=adversarial_translation", "-s=a", "-t=b"],
        *["--criterion", criterion, "--label-smoothing=0.1", *model, "--dropout=0.1"],
        *["--optimizer=adam", "--lr=1e-3", "--max-tokens=60", "--cpu", "--num-workers=0"],
        *[f"--max-update={UPDATES}", "--log-interval=5", "--log-format=json", "--seed=5"],
        *["--no-save", "--disable-validation", f"--save-dir={data.parent}"],
        *(["--gauge-interval=4"] if criterion in GAMES else []),
        *more,
    ]


def train(data: Path, criterion: str, *more: str) -> dict[str, Any]:
    """Return a digest of the parameters after a training, and what it has logged."""
    import torch
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.logging import metrics
    from fairseq.trainer import Trainer
    from fairseq_cli import train as command

    made: list[Any] = []
    logged: dict[str, Any] = {}
    original, reset_meters = Trainer.__init__, metrics.reset_meters

    def keeping(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    def reading(name: str) -> None:
        if name == "train":
            logged.update(metrics.get_smoothed_values(name))
        reset_meters(name)

    Trainer.__init__, metrics.reset_meters = keeping, reading
    metrics.reset()
    try:
        parser = options.get_training_parser()
        parsed = options.parse_args_and_arch(parser, arguments(data, criterion, *more))
        cfg = convert_namespace_to_omegaconf(parsed)
        cfg.common.tpu = False
        command.main(cfg)
    finally:
        Trainer.__init__, metrics.reset_meters = original, reset_meters
    digest = hashlib.sha256()
    for name, value in made[-1].model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    left_out = ("wall", "wps", "ups", "wpb", "bsz", "train_wall", "gb_free")
    return {
        "parameters": digest.hexdigest(),
        "updates": made[-1].get_num_updates(),
        "log": {k: None if v is None else float(v) for k, v in logged.items() if k not in left_out},
    }


def measure_here(out: Path) -> None:
    """Train all cases with the code of the current directory, and write what came of them."""
    import logging

    import torch

    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    found = {}
    chosen = cases()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        for number, case in enumerate(chosen, 1):
            print(f"\r  {number} of {len(chosen)}", end="", file=sys.stderr, flush=True)
            try:
                found[" ".join(case)] = train(data, *case)
            except (Exception, SystemExit) as error:
                found[" ".join(case)] = {"refused": str(error)}
    print(file=sys.stderr)
    out.write_text(json.dumps(found, indent=1))


def measure(checkout: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Return what comes of all cases with the code of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--here", str(out)]
    path = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with (out.with_suffix(".log")).open("w") as log:
        subprocess.run(command, cwd=checkout, env=path, check=True, stdout=log)
    found: dict[str, dict[str, Any]] = json.loads(out.read_text())
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a line for each case that is not the same."""
    lines = []
    for case in before:
        refusals = [found[case].get("refused") for found in (before, after)]
        if any(refusals):  # there is nothing else to compare
            if refusals[0] != refusals[1]:
                lines.append(f"{case}: refused: {refusals[0]} before, {refusals[1]} now")
            continue
        for what in ("updates", "parameters", "log"):
            old, new = before[case].get(what), after[case].get(what)
            if old != new:
                if what == "log":
                    names = {*old, *new}
                    old = {n: old.get(n) for n in names if old.get(n) != new.get(n)}
                    new = {n: new.get(n) for n in old}
                lines.append(f"{case}: {what}: {old} before, {new} now")
    return lines


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("revision", nargs="?", default="HEAD", help="to compare with")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure_here(args.here)
        return 0
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        git = ["git", "-C", str(root), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(old), args.revision], check=True)
        try:
            before = measure(old, Path(folder) / "before.json")
            after = measure(root, Path(folder) / "after.json")
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    lines = differences(before, after)
    refused = sum("refused" in each for each in before.values())
    print(*lines, sep="\n")
    print(f"{len(before)} trainings, {refused} of them refused: {len(lines)} differences")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
