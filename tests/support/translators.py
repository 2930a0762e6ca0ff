"""A small German-English corpus that is learnt in seconds, and models trained on it."""

from __future__ import annotations

import random
from pathlib import Path

from data_prep.__main__ import main as data_prep
from tests.support import training

_NOUNS = {"Haus": "house", "Baum": "tree", "Datei": "file", "Fenster": "window", "Zelle": "cell"}
_ADJECTIVES = {"große": "big", "kleine": "small", "neue": "new", "alte": "old"}
_VERBS = {"öffnet": "opens", "schließt": "closes", "sieht": "sees", "druckt": "prints"}


def make_corpus(directory: Path, source: str = "de", target: str = "en") -> Path:
    """Prepare a corpus of 1 to 3 clauses a line, with 60 test sentences; return its directory."""
    rng = random.Random(3)
    for split, size in (("train", 400), ("valid", 20), ("test", 60)):
        pairs = [_pair(rng) for _ in range(size)]
        for side, lang in enumerate(("de", "en")):
            text = "".join(pair[side] + "\n" for pair in pairs)
            (directory / f"{split}.{lang}").write_text(text, encoding="utf-8")
    splits = [f"--{split}={directory / split}" for split in ("train", "valid", "test")]
    out = directory / "data"
    command = [
        "files",
        f"--source-lang={source}",
        f"--target-lang={target}",
        *splits,
        f"--out={out}",
    ]
    assert data_prep([*command, "--bpe-merges=60", "--workers=1"]) == 0
    return out


def _pair(rng: random.Random) -> tuple[str, str]:
    source, target = [], []
    for _ in range(rng.randint(1, 3)):
        adjective, verb = rng.choice(list(_ADJECTIVES)), rng.choice(list(_VERBS))
        first, second = rng.choices(list(_NOUNS), k=2)
        source.append(f"Die {adjective} {first} {verb} {second}.")
        target.append(
            f"The {_ADJECTIVES[adjective]} {_NOUNS[first]} {_VERBS[verb]} {_NOUNS[second]}."
        )
    return " ".join(source), " ".join(target)


def train(data: Path, save_dir: Path, *options: str, updates: int = 150) -> Path:
    """Train a model of the tests' size on a corpus; return the checkpoint."""
    training.run_training(
        data / "bin",
        save_dir,
        *("--lr", "5e-3", "--max-tokens", "1000", "--max-update", str(updates)),
        *("--log-interval", "1000", "--disable-validation", *options),
        criterion="label_smoothed_cross_entropy",
    )
    return save_dir / "checkpoint_last.pt"
