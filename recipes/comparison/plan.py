"""Which trainings a comparison consists of, and how long each of them is."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.comparison.contenders import Contender
from recipes.comparison.kinds import kind_from
from recipes.comparison.kinds.kind import Kind
from recipes.support.errors import RecipeError
from recipes.support.files import read_json, write_json

SPECIFICATION = "run.json"
RUNS = "runs"
USER_DIR = Path(__file__).parents[2] / "fairseq_adv"

# The comparison sets them, a run at a time.
_OURS = (
    "--save-dir",
    "--seed",
    "--max-update",
    "--max-epoch",
    "--stop-time-hours",
    "--restore-file",
    "--finetune-from-model",
    "--log-format",
    "--source-lang",
    "-s",
    "--target-lang",
    "-t",
    "--task",
    "--user-dir",
)


@dataclass(frozen=True)
class Budget:
    """How long to train.

    :param updates: of every method, in the comparison after equally many updates.
    :param time: of every method, in the comparison after equal time; in updates of plain training.
    :param every: the number of updates after which checkpoints are saved and judged.
    """

    updates: int
    time: int
    every: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise RecipeError(f"--{name} {value}: allowed is 1, 2, 3, ...")
        for name in ("updates", "time"):
            value = getattr(self, name)
            if value % self.every:
                raise RecipeError(f"--{name} {value}: is not a multiple of --every {self.every}")

    def updates_in_time(self, cost: float) -> int:
        """Return how many updates fit in the time, up to the last checkpoint; 0 if not even one's.

        :param cost: seconds per update, relative to plain training.
        """
        return math.floor(self.time / cost / self.every + 1e-9) * self.every


@dataclass(frozen=True)
class Run:
    """One training, of one method with one seed.

    :param directory: where all of it goes.
    :param command: fairseq-train's options, all but --max-update.
    :param horizons: numbers of updates after which to translate and score, ascending.
    :param data_digest: of what is in the data.
    """

    directory: Path
    contender: str
    seed: int
    command: tuple[str, ...]
    horizons: tuple[int, ...]
    data_digest: str
    kind: Kind

    @property
    def cpu(self) -> bool:
        """Whether it is to leave a GPU unused."""
        return "--cpu" in self.command

    def save(self) -> None:
        """Write it into its directory, for `python -m recipes.comparison.run`.

        Raises RecipeError if something else has been trained there.
        """
        path = self.directory / SPECIFICATION
        if path.exists():
            there = Run.load(self.directory)
            if there._identity() != self._identity():
                raise RecipeError(
                    f"{self.directory} holds a training with other data or options:"
                    " remove it, or choose another OUT"
                )
        found = {**vars(self), **self.kind.identity()}
        write_json(found | {"directory": str(self.directory), "data": str(self.kind.data)}, path)

    @staticmethod
    def load(directory: Path) -> "Run":
        """Read what `save` wrote."""
        found = read_json(directory / SPECIFICATION, made_by="recipes/compare.sh")
        return Run(
            directory,
            found["contender"],
            found["seed"],
            tuple(found["command"]),
            tuple(found["horizons"]),
            found["data_digest"],
            kind_from(Path(found["data"]), found),
        )

    def _identity(self) -> tuple[object, ...]:
        """All that decides what the model is after so many updates."""
        return self.command, self.data_digest, self.kind.identity()


def digest_of(data: Path) -> str:
    """Return a digest of what is binarised in a directory made by data_prep."""
    return hashlib.sha256((data / "bin" / "stage.json").read_bytes()).hexdigest()


def plan_run(
    directory: Path,
    contender: Contender,
    seed: int,
    kind: Kind,
    options: Sequence[str],
    every: int,
    horizons: Sequence[int],
) -> Run:
    """Return the training of a method with a seed.

    :param options: of fairseq-train, which all trainings share.
    :param horizons: see `Run`; 0 counts as none.
    """
    for option in options:
        if option.split("=")[0] in _OURS:
            raise RecipeError(f"{option}: leave it out; the comparison sets it")
    run = directory / RUNS / contender.name / f"seed-{seed}"
    data = kind.data
    command = (
        *(str(data / "bin"), "--user-dir", str(USER_DIR), "--task", kind.task),
        *kind.options(),
        *contender.options,
        *options,
        *("--seed", str(seed), "--save-dir", str(run / "checkpoints")),
        *("--best-checkpoint-metric", kind.chosen_by.key, "--maximize-best-checkpoint-metric"),
        *("--save-interval-updates", str(every), "--validate-interval-updates", str(every)),
        *("--save-interval", "1000000", "--validate-interval", "1000000"),  # not by epochs
        *("--no-epoch-checkpoints", "--keep-interval-updates", "1"),
        *("--log-format", "json"),
    )
    return Run(
        directory=run,
        contender=contender.name,
        seed=seed,
        command=command,
        horizons=tuple(sorted(set(horizons) - {0})),
        data_digest=digest_of(data),
        kind=kind,
    )
