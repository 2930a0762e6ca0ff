"""What fairseq offers and games are not played with: refused in one line before training starts.

A game takes several passes and several backward passes per batch, gradients of embeddings, and
dropout masks that are drawn again. What breaks one of these, or has not been shown to keep them, is
here. The options come from other parts of fairseq's configuration, so that `fairseq-train` and
`fairseq-hydra-train` are refused alike.
"""

from dataclasses import dataclass
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.modules import FairseqDropout, LayerDropModuleList
from omegaconf import II
from torch import nn

from fairseq_adv.core.method import Method
from fairseq_adv.core.players.start import AtRest, Gaussian, Noise


@dataclass
class SurroundingsConfig(FairseqDataclass):
    """Options of fairseq that decide whether a game can be played; none of them is set here."""

    ddp_backend: str = II("distributed_training.ddp_backend")
    pipeline_model_parallel: bool = II("distributed_training.pipeline_model_parallel")
    model_parallel_size: int = II("common.model_parallel_size")
    use_bmuf: bool = II("optimization.use_bmuf")
    tpu: bool = II("common.tpu")
    bf16: bool = II("common.bf16")
    fp16: bool = II("common.fp16")
    amp: bool = II("common.amp")
    quantization_config_path: Optional[str] = II(  # noqa: UP045
        "common.quantization_config_path"
    )


def refuse_sharding(ddp_backend: Any) -> None:
    """Refuse a backend that takes the model apart, before fairseq builds the model for it."""
    if ddp_backend == "fully_sharded":
        raise SystemExit(
            "fairseq_adv: --ddp-backend fully_sharded reduces gradients in each backward pass, and "
            "that several per batch leave the right one has not been shown: use --ddp-backend "
            "legacy_ddp, or --task translation for a plain training"
        )


def refuse_surroundings(cfg: SurroundingsConfig) -> None:
    """Refuse options under which a game's gradient is wrong or has not been shown to be right."""
    refuse_sharding(cfg.ddp_backend)
    tpu = cfg.tpu and not cfg.bf16  # fairseq's command line takes --bf16 for --tpu
    for used, option, why in (
        (
            cfg.ddp_backend == "slowmo",
            "--ddp-backend slowmo",
            "workers' models differ between updates, and games on them have not been tested: use "
            "--ddp-backend legacy_ddp",
        ),
        (
            cfg.pipeline_model_parallel,
            "--pipeline-model-parallel",
            "the word embeddings of a model that is cut into pieces cannot be perturbed: leave it "
            "out",
        ),
        (
            cfg.model_parallel_size > 1,
            f"--model-parallel-size {cfg.model_parallel_size}",
            "the word embeddings of a model that is cut into pieces cannot be perturbed: leave it "
            "out",
        ),
        (
            cfg.use_bmuf,
            "--use-bmuf",
            "workers' models differ between updates, and games on them have not been tested: leave "
            "it out",
        ),
        (tpu, "--tpu", "games have not been tested on a TPU: use a GPU or --cpu"),
        (
            cfg.quantization_config_path is not None,
            "--quantization-config-path",
            "quantised layers have no second derivative, and are not the same in every pass: "
            "leave it out",
        ),
    ):
        if used:
            raise SystemExit(f"fairseq_adv: {option}: {why}")


LEAST_START = 0.03
"""Standard deviation of a start from which 16 bits still see where a divergence rises.

Measured (`benchmarks/precision.py`): without dropout, SALT's gradient is 90 % off from 0.001, 24 %
from 0.01 and 7 % from 0.03 in bfloat16, on embeddings whose own standard deviation is 0.09.
"""
LEAST_START_IN_FLOAT32 = 1e-4
"""The same in float32, measured alike: 0.2 % off from 1e-4 (at worst 3 %), 5 % from 1e-5 (35 %)."""


def refuse_16_bits(method: Method, cfg: Any) -> None:
    """Refuse what 16 bits do not resolve.

    :param cfg: the criterion's options.
    """
    used = _16_bits(cfg)
    if used and method.takes_differences:
        raise SystemExit(
            f"fairseq_adv: --unroll-method {cfg.unroll_method} with {used}: it takes a "
            "difference of gradients that 16 bits do not resolve: use --unroll-method exact"
        )


def refuse_equal_passes(method: Method, cfg: Any, model: nn.Module) -> None:
    """Refuse a game in which both passes are the same, to the bit or to rounding.

    A divergence begins at 0 there, and so does its gradient: a follower that starts at rest stays
    there, or climbs along rounding noise.

    :param cfg: the criterion's options.
    """
    if cfg.adv_weight == 0:
        return
    if str(getattr(cfg, "dropout_masks", "independent")) == "shared":
        why, cure = "the same dropout in both passes", "--dropout-masks independent"
    elif not _drops_out(model):
        why, cure = "no dropout", "--dropout above 0"
    else:
        return
    beginning = f"fairseq_adv: --criterion {cfg._name}"
    if method.follower is None:
        if not method.edits_passes:
            cut = f" and --cutoff-rate {cfg.cutoff_rate}" if hasattr(cfg, "cutoff_rate") else ""
            raise SystemExit(
                f"{beginning} with {why}{cut}: its two passes are one and the same: use {cure}"
            )
        return
    if method.raises == "task-loss":
        return
    used = _16_bits(cfg)
    least = LEAST_START if used else LEAST_START_IN_FLOAT32
    start = method.follower.start
    sizes = {Gaussian: "init_std", Noise: "noise_size"}
    for kind, name in sizes.items():
        if isinstance(start, kind) and getattr(start, name) < least:
            option = f"--{name.replace('_', '-')}"
            raise SystemExit(
                f"{beginning} {option} {getattr(start, name)} with {why}: a divergence begins at 0,"
                f" and where it rises is lost in the rounding of {used or 'float32'}: use {option}"
                f" {least} or more, or {cure}"
            )
    if isinstance(start, AtRest):
        raise SystemExit(
            f"{beginning} --adv-objective {cfg.adv_objective} with {why}: a divergence begins at "
            f"0, and a perturbation that does so as well stays there: use --adv-objective "
            f"task-loss, or {cure}"
        )


def _16_bits(cfg: Any) -> str | None:
    """The option that asks for 16 bits."""
    return next((f"--{name}" for name in ("bf16", "fp16", "amp") if getattr(cfg, name)), None)


def _drops_out(model: nn.Module) -> bool:
    """Whether two passes of a model in training differ."""
    return any(
        (
            isinstance(m, FairseqDropout | LayerDropModuleList | nn.modules.dropout._DropoutNd)
            and m.p > 0
        )
        or (isinstance(m, nn.RNNBase) and m.dropout > 0 and m.num_layers > 1)
        for m in model.modules()
    )


def refuse_model(model: nn.Module, criterion: str, differentiates: bool) -> None:
    """Refuse layers that a game cannot go through.

    :param differentiates: whether the method takes gradients apart from the backward pass.
    """
    modules = list(model.modules())
    if differentiates and any(hasattr(m, "precheckpoint_forward") for m in modules):
        raise SystemExit(
            "fairseq_adv: --checkpoint-activations, --offload-activations with --criterion "
            f"{criterion}: checkpointed layers give no gradient of the perturbation alone: leave "
            "them out, or use --criterion adv, freelb, freeat, r3f, rdrop or simcut"
        )
    hooks = [hook for m in modules for hook in m._forward_pre_hooks.values()]
    noisy = any(hook.__module__ == "fairseq.modules.quant_noise" for hook in hooks)
    if noisy or any("fairseq.modules.quantization" in type(m).__module__ for m in modules):
        raise SystemExit(
            "fairseq_adv: --quant-noise-pq, --quant-noise-scalar: each pass has weights of its "
            "own, and the passes of a game would be those of different models: leave them out"
        )
