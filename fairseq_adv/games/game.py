"""`core.game.Game` over a fairseq model and a batch: what is the same in every family of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.comparison.comparison import Comparison, Kind
from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.comparison.predictions import Predictions
from fairseq_adv.core.method import Peak
from fairseq_adv.core.players.directions import FREE, Directions
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Add, Edits, Replace
from fairseq_adv.games.mixed_precision import mixed_precision
from fairseq_adv.games.parts import number_of_parts, parts_of
from fairseq_adv.games.sites import SITES, FairseqSite, in_directions


class FairseqGame(ABC):
    """One fairseq model and one batch; see `Game`.

    A family of tasks says what is predicted, and what of it fairseq counts and logs.

    :param model: any that has the sites that are attacked.
    :param sample: a batch as the task's datasets collate it.
    :param plain: the criterion whose loss the task loss is.
    :param autocast: run the model in mixed precision, as for --amp. Perturbations, projection,
        losses and divergences are in float32 in any case.
    :param directions: in which perturbations are.
    :param attacked: the names of the sites at which passes are edited.
    :param alike: whether all passes are computed in the way that can be edited there, so that they
        differ by their edits and dropout masks alone; else a clean one is as in a plain update.
    """

    words: ClassVar[tuple[str, ...]]
    """The sites at which words are perturbed."""

    def __init__(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        plain: Any,
        *,
        autocast: bool = False,
        attacked: Collection[str] = (),
        directions: Directions = FREE,
        alike: bool = True,
    ) -> None:
        self.model = model
        self.sample = sample
        self.plain = plain
        self.autocast = autocast
        self.attacked = attacked
        self.directions = directions
        self.alike = alike

    @classmethod
    def check(
        cls, model: BaseFairseqModel, sites: Collection[str], directions: Directions = FREE
    ) -> None:
        """Raise UnsupportedModel for a model that has not these sites, or that cannot be played."""
        for name in sites:
            in_directions(SITES[name], directions).check(model)

    def of(self, model: BaseFairseqModel) -> Self:
        """The game on the same batch with another model."""
        return type(self)(
            model,
            self.sample,
            self.plain,
            autocast=self.autocast,
            attacked=self.attacked,
            directions=self.directions,
            alike=self.alike,
        )

    @cached_property
    def sites(self) -> Mapping[str, FairseqSite]:
        """See `Game`."""
        kinds = {
            name: in_directions(site, self.directions) if name in self.attacked else site
            for name, site in SITES.items()
        }
        return {name: kind(self.model, self.sample) for name, kind in kinds.items()}

    def clean(self, edits: Edits) -> Predictions:
        """See `Game.clean`."""
        known = [name for name in self.attacked if self.sites[name].is_known]
        return self._pass(edits, plain=() if self.alike else known)

    def perturbed(self, edits: Edits, masks: RandomState) -> Predictions:
        """See `Game.perturbed`."""
        moved = any(isinstance(edit, Add | Replace) for edit in edits.values())
        if not all(self.sites[name].is_known for name in edits):  # a game without a clean pass
            with masks.replay(), torch.no_grad():
                self._pass({})
        with masks.replay():
            return self._pass(edits, moved=moved)

    @abstractmethod
    def task_loss(self, predictions: Predictions) -> Term:
        """See `Game.task_loss`."""

    @abstractmethod
    def comparison(self, divergence: Kind) -> Comparison:
        """See `Game.comparison`."""

    @abstractmethod
    def sentences(self) -> Tensor:
        """See `Game.sentences`."""

    def parameters(self) -> Sequence[Tensor]:
        """See `Game.parameters`."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def _pass(
        self, edits: Edits, *, plain: Collection[str] = (), moved: bool = False
    ) -> Predictions:
        """One pass, edited.

        :param plain: sites at which it is computed as in a plain update, if it is not edited there.
        """
        with ExitStack() as blocks:
            blocks.enter_context(mixed_precision(self.model, self.autocast))
            for name in {*self.attacked, *edits} - ({*plain} - {*edits}):
                blocks.enter_context(self.sites[name].open())
            for name, edit in edits.items():
                blocks.enter_context(self.sites[name].apply(edit))
            return self._predict(moved)

    @abstractmethod
    def _predict(self, moved: bool) -> Predictions:
        """One pass of the model.

        :param moved: whether gradients of what was put in at a site are wanted.
        """

    def _as_computed(self, tensor: Tensor) -> Tensor:
        """In the type that mixed precision computes in, where that is asked for."""
        if not self.autocast:
            return tensor
        return tensor.to(torch.get_autocast_dtype(tensor.device.type))

    @property
    @abstractmethod
    def predicted(self) -> int:
        """How many predictions fairseq counts in the batch: its logs are means over them."""

    @property
    @abstractmethod
    def sample_size(self) -> int:
        """What fairseq divides the gradient of a summed loss by."""

    @property
    @abstractmethod
    def counts(self) -> dict[str, int]:
        """What fairseq logs of any batch: `ntokens` and `nsentences`."""

    @property
    @abstractmethod
    def logged(self) -> tuple[str, ...]:
        """The names of what `measured` gives."""

    @abstractmethod
    def measured(self, loss: Any) -> dict[str, Tensor]:
        """What is logged of an evaluated task loss of clean predictions: sums over the batch."""

    def parts(self, number: int) -> list[dict[str, Any]]:
        """The batch, split between sentences into at most so many, of about as many words each."""
        parts = parts_of(self.sample, number, self._words())
        return parts if len(parts) == 1 else [self._trimmed(part) for part in parts]

    @abstractmethod
    def _words(self) -> Tensor:
        """How many each sentence has, B."""

    @abstractmethod
    def _trimmed(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A batch without columns of nothing but padding."""

    def parts_in_memory(self, peak: Peak) -> int:
        """In how many parts a game holds about as much as a plain update, where that is as fast.

        :param peak: what it would hold in one.
        """
        if self.sample["target"].device.type != "cpu":
            return 1
        return number_of_parts(self.model, self._logits(), peak, self.sample["ntokens"])

    @abstractmethod
    def _logits(self) -> int:
        """About how many there are in a row of predictions."""
