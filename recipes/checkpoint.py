"""Read a checkpoint of fairseq: what it is of, and after how many updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.errors import RecipeError


@dataclass(frozen=True)
class Trained:
    """What a checkpoint tells of its training.

    :param options: those of the criterion, by their names in fairseq's configuration.
    :param updates: optimizer updates done.
    :param parameters: trained numbers, shared ones counted once.
    """

    method: str
    options: dict[str, Any]
    updates: int
    parameters: int


def read_checkpoint(path: Path) -> Trained:
    """Read a checkpoint of fairseq, whose data must be where they were in training."""
    from fairseq import checkpoint_utils
    from omegaconf import OmegaConf

    state = load_state(path)
    with refusals_as_errors():
        models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    criterion: Any = OmegaConf.to_container(state["cfg"]["criterion"], resolve=True)
    return Trained(
        method=criterion["_name"],
        options={name: value for name, value in criterion.items() if not name.startswith("_")},
        updates=_updates(state),
        parameters=sum(parameter.numel() for parameter in models[0].parameters()),
    )


def updates_of(path: Path) -> int:
    """Return the number of optimizer updates after which a checkpoint of fairseq was saved."""
    return _updates(load_state(path))


def load_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of fairseq holds. Raises RecipeError for what is none."""
    # Imported late, since fairseq sets up the logging of the whole process when it is imported.
    from fairseq import checkpoint_utils

    import fairseq_adv.tasks  # noqa: F401  (registers the task, mends the loading of checkpoints)

    with refusals_as_errors():
        return dict(checkpoint_utils.load_checkpoint_to_cpu(str(path)))


@contextmanager
def refusals_as_errors() -> Iterator[None]:
    """Raise a RecipeError where a checkpoint is refused since it has code in it, or is damaged."""
    from fairseq_adv.safe_loading import CheckpointRefused

    try:
        yield
    except CheckpointRefused as refused:
        raise RecipeError(str(refused).removeprefix("fairseq_adv: ")) from None


def _updates(state: dict[str, Any]) -> int:
    return int(state["optimizer_history"][-1]["num_updates"])
