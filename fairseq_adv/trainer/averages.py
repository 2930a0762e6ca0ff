"""What fairseq's average of earlier models (`--store-ema`) needs: one small patch each.

What a training that begins without an average does is `GameTrainer.load_checkpoint`'s. Tests:
tests/trainer/test_averages.py.
"""

from __future__ import annotations

from typing import Any

from fairseq.models.ema.ema import EMA


def average_convolutional_models() -> None:
    """Let `--store-ema` copy a convolutional model.

    Its weights are computed from normalised parameters, and torch copies no computed tensor. They
    are computed anew in each pass: any value will do. Test: test_a_convolutional_model_is_averaged.
    """
    original = EMA.__init__

    def copying(self: EMA, model: Any, *args: Any, **kwargs: Any) -> None:
        for module in model.modules():
            if hasattr(module, "weight_g"):
                module.weight = module.weight.detach()
        original(self, model, *args, **kwargs)

    EMA.__init__ = copying


def average_every_layer() -> None:
    """Let the average of `--store-ema` keep the last layer norms of a pre-norm Transformer.

    fairseq leaves the version numbers of encoder and decoder out of the average; when it loads
    that, it takes it for a model of an early version, which had no such norms, and removes them:
    the average predicts nonsense from the first update on. Test: test_an_average_is_of_all_layers.
    """
    original = EMA.restore

    def restoring(self: EMA, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        versions = {k: v for k, v in self.model.state_dict().items() if k.endswith("version")}
        original(self, {**versions, **state_dict}, *args, **kwargs)

    EMA.restore = restoring


def average_shared_parameters_once() -> None:
    """Let `--ema-decay` mean the same for shared embeddings as for everything else.

    fairseq averages a parameter once for each of its names: shared embeddings of encoder, decoder
    and output three times per update. Test: test_shared_embeddings_are_averaged_once.
    """
    original = EMA._step_internal

    class EachOnce:
        def __init__(self, model: Any) -> None:
            self.model = model

        def state_dict(self) -> dict[str, Any]:
            state = self.model.state_dict()
            names = {value.data_ptr() or name: name for name, value in state.items()}
            return {name: state[name] for name in names.values()}

    def stepping(self: EMA, new_model: Any, *args: Any, **kwargs: Any) -> None:
        original(self, EachOnce(new_model), *args, **kwargs)

    EMA._step_internal = stepping


def average_every_nth_update_also_after_a_restart() -> None:
    """Let a training with `--ema-update-freq` above 1 end the same when it was resumed.

    fairseq counts the updates since the last one that was averaged, and begins at 0 when it starts
    again. Test: test_an_average_of_every_third_update_goes_on.
    """
    original = EMA.step

    def stepping(self: EMA, new_model: Any, updates: int | None = None) -> None:
        if updates is not None:
            self.update_freq_counter = (updates - 1) % max(1, self.config.ema_update_freq)
        original(self, new_model, updates)

    EMA.step = stepping


PATCHES = (
    average_convolutional_models,
    average_every_layer,
    average_shared_parameters_once,
    average_every_nth_update_also_after_a_restart,
)
