"""Turn a checkpoint into a folder that translates anywhere: `python -m recipes.serving.export`.

The folder needs neither the data directory nor our user-dir:

- model.pt: a checkpoint that stock fairseq loads as a model of its task ``translation``. Stock
  fairseq 0.12.3 cannot load its own checkpoints with torch 2.6 or later: ``torch.load`` then reads
  tensors and plain containers only, and fairseq saves its options as an argparse.Namespace and its
  meters as arrays of numpy. model.pt holds plain dictionaries, lists, numbers and strings beside
  the weights, which are float32; neither the optimizer's state nor the average of ``--store-ema``,
  and no path.
- dict.SRC.txt and dict.TGT.txt; codes (subword-nmt's) or sentencepiece.model.
- ctranslate2/: the same weights for CTranslate2, by its own converter. It knows Transformers only:
  the folder of another model has no such part.
- model.json: see `recipes.serving.model_folder.Exported`.
"""

import argparse
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.support.versions import installed
from recipes.evaluation.evaluate import PLAIN_LENPEN
from recipes.models.checkpoint import direction, fields, load_state, refusals_as_errors, updates_in
from recipes.models.model import quiet
from recipes.models.plain import options_of, plain_checkpoint
from recipes.models.prepared import Prepared
from recipes.serving.model_folder import (
    CTRANSLATE2,
    DESCRIPTION,
    MODEL,
    Exported,
)
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import folder_written_whole, refuse_to_replace

QUANTIZATIONS = ("int8", "int8_float32", "int8_float16", "int16", "float16", "bfloat16")
_TOOLS = (
    *("fairseq", "ve-fairseq", "torch", "ctranslate2"),
    *("sacremoses", "subword-nmt", "sentencepiece"),
)


def export(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    beam: int = 5,
    lenpen: float = PLAIN_LENPEN,
    quantization: str | None = None,
) -> str | None:
    """Write the folder `out`, whole or not at all; return why CTranslate2's part is left out.

    A former export of that name is replaced.

    :param data: the directory made by data_prep that the checkpoint was trained on.
    :param beam: what `recipes.serving.translate` does unless it is told otherwise; so is `lenpen`.
    :param quantization: one of `QUANTIZATIONS`, of the weights for CTranslate2; None: float32.

    Raises RecipeError if the checkpoint is not of that data, or `out` is something else.
    """
    out = out.absolute()
    refuse_to_replace(out, DESCRIPTION, "recipes.serving.export")
    languages = direction(data, [checkpoint])
    prepared = Prepared.of(data, languages)
    state = load_state(checkpoint)
    with fields(checkpoint):
        plain = plain_state(state, languages)
        method, updates = str(state["cfg"]["criterion"]["_name"]), updates_in(state)
    with folder_written_whole(out) as folder:
        for lang in languages:
            shutil.copyfile(data / "bin" / f"dict.{lang}.txt", folder / f"dict.{lang}.txt")
        shutil.copyfile(prepared.subwords_file, folder / prepared.subwords_file.name)
        _save(plain, folder / MODEL)
        max_positions = _max_positions(folder, checkpoint)
        left_out = _convert(folder, languages, quantization)
        Exported(
            languages=languages,
            preparation=prepared.preparation,
            beam=beam,
            lenpen=lenpen,
            max_positions=max_positions,
            method=method,
            updates=updates,
            quantization=quantization,
            versions=installed(_TOOLS),
        ).write(folder)
    return left_out


def plain_state(state: Mapping[str, Any], languages: tuple[str, str]) -> dict[str, Any]:
    """Return a checkpoint without all that stock fairseq cannot read or does not need.

    :param state: a checkpoint as `recipes.models.checkpoint.load_state` returns it.
    """
    from fairseq.tasks.translation import TranslationConfig

    task = options_of(state["cfg"]["task"], TranslationConfig)
    own = {"eval_bleu", "data", "source_lang", "target_lang"}
    task = {
        **{name: value for name, value in task.items() if name not in own},
        **{"_name": "translation", "data": ".", "eval_bleu": False},
        **{"source_lang": languages[0], "target_lang": languages[1]},
    }
    criterion = {"_name": "label_smoothed_cross_entropy"}
    return plain_checkpoint(state, task, criterion, "LabelSmoothedCrossEntropyCriterion")


def _save(state: dict[str, Any], path: Path) -> None:
    import torch

    torch.save(state, path)


def _max_positions(folder: Path, checkpoint: Path) -> tuple[int, int]:
    """Load the exported model as stock fairseq does; return the most tokens of source and target.

    Raises RecipeError if it is not of those dictionaries, or its options make no model.
    """
    from fairseq import checkpoint_utils, utils

    try:
        with refusals_as_errors():
            (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
                [str(folder / MODEL)], arg_overrides={"data": str(folder)}
            )
    except RecipeError as refused:
        raise RecipeError(str(refused).replace(str(folder / MODEL), str(checkpoint))) from None
    source, target = utils.resolve_max_positions(task.max_positions(), model.max_positions())
    return int(source), int(target)


def _convert(folder: Path, languages: tuple[str, str], quantization: str | None) -> str | None:
    """Write the folder for CTranslate2; return why it cannot be, where it cannot."""
    import torch
    from ctranslate2.converters import FairseqConverter

    state = torch.load(folder / MODEL, weights_only=True)
    with tempfile.TemporaryDirectory(prefix="recipes-") as scratch:
        # The converter wants the options of task and model together, as attributes.
        options = Namespace(**state["cfg"]["model"], task="translation")
        options.arch = getattr(options, "arch", None) or options._name
        options.left_pad_source = state["cfg"]["task"]["left_pad_source"]
        options.left_pad_target = state["cfg"]["task"]["left_pad_target"]
        path = Path(scratch, MODEL)
        torch.save({"args": options, "model": state["model"]}, path)
        # It can be read because fairseq_adv, which `load_state` has imported, allows a Namespace.
        converter = FairseqConverter(str(path), str(folder), *languages)
        try:
            converter.convert(str(folder / CTRANSLATE2), quantization=quantization)
        except ValueError as error:
            unsupported = [line[2:] for line in str(error).split("\n") if line.startswith("- ")]
            if not unsupported:
                raise
            return "; ".join(unsupported)
    return None


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.serving.export",
        description="Turn a checkpoint into a folder that translates anywhere, with stock fairseq,"
        " CTranslate2 or recipes.serving.translate.",
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="directory made by data_prep, of the training"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MODEL", help="the folder to write"
    )
    parser.add_argument(
        "--beam",
        type=int,
        default=5,
        metavar="N",
        help="beam size that recipes.serving.translate is to use (default: %(default)s)",
    )
    parser.add_argument(
        "--lenpen",
        type=float,
        default=PLAIN_LENPEN,
        metavar="X",
        help="length penalty that it is to use (default: %(default)s); recipes.evaluation.evaluate"
        " --tune-lenpen finds the best",
    )
    parser.add_argument(
        "--quantization",
        choices=(*QUANTIZATIONS, "none"),
        default="none",
        help="of the weights for CTranslate2 (default: %(default)s, float32)",
    )
    args = parser.parse_args()
    if args.beam < 1:
        raise RecipeError(f"--beam {args.beam}: allowed is 1, 2, 3, ...")
    quantization = None if args.quantization == "none" else args.quantization
    left_out = export(
        args.data,
        args.checkpoint,
        args.out,
        beam=args.beam,
        lenpen=args.lenpen,
        quantization=quantization,
    )
    if left_out:
        print(f"{CTRANSLATE2}/ is left out: {left_out}", file=sys.stderr)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB; python -m recipes.serving.translate {args.out} < TEXT")


if __name__ == "__main__":
    sys.exit(run_main("recipes.serving.export", _main))
