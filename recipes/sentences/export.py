"""Turn a checkpoint into a folder that classifies anywhere: `python -m recipes.sentences.export`.

It needs neither the data directory, nor the encoder's, nor that of the training; see
`recipes.sentences.classifier`. A RoBERTa's is for stock fairseq, too; BERT and the attention
classifier are models of fairseq_adv.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.encoders.prepared import PreparedEncoder
from data_prep.encoders.words import OWN_WORDS
from data_prep.support.versions import installed
from recipes.models.checkpoint import check_labels, fields, load_state, trained
from recipes.models.model import quiet
from recipes.models.plain import options_of, plain_checkpoint
from recipes.sentences.classifier import (
    DESCRIPTION,
    LABELS,
    MODEL,
    TOKENIZER,
    WORDS,
    Described,
    load_folder,
)
from recipes.sentences.labelled import Labelled
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import folder_written_whole, refuse_to_replace

_CRITERION = "sentence_prediction"
_TOOLS = ("fairseq", "ve-fairseq", "torch", "tokenizers")


def export(data: Path, checkpoint: Path, encoder: Path, out: Path) -> None:
    """Write the folder `out`, whole or not at all. A former export of that name is replaced.

    :param data: the directory made by data_prep that the checkpoint was trained on.
    :param encoder: the directory of the encoder that the data were cut for.

    Raises RecipeError if these do not belong together, or `out` is something else.
    """
    import torch

    out = out.absolute()
    refuse_to_replace(out, DESCRIPTION, "recipes.sentences.export")
    corpus = Labelled.of(data)
    check_labels(data, checkpoint)
    _check_encoder(corpus, encoder)
    state = load_state(checkpoint)
    with fields(checkpoint):
        plain = plain_state(state)
        seed = int(state["cfg"]["common"]["seed"])
    with folder_written_whole(out) as folder:
        for name in (WORDS, LABELS):
            (folder / name).parent.mkdir()
            if (data / "bin" / name).exists():  # scores have no names
                shutil.copyfile(data / "bin" / name, folder / name)
        shutil.copyfile(encoder / TOKENIZER, folder / TOKENIZER)
        torch.save(plain, folder / MODEL)
        loaded = load_folder(folder, cpu=True)
        told = trained(checkpoint, state, loaded.model)
        Described(
            classes=corpus.classes,
            scores_divided_by=corpus.divisor,
            texts=corpus.texts,
            max_pieces=corpus.report["bin"]["max_pieces"],
            corpus=corpus.report["corpus"],
            encoder=corpus.report["encoder"]["name"],
            method=told.method,
            options=told.options,
            seed=seed,
            updates=told.updates,
            versions=installed(_TOOLS),
        ).write(folder)


def usual_encoder(data: Path) -> Path:
    """Return where data_prep has the encoder that data were prepared for, unless told otherwise."""
    name = Labelled.of(data).report["encoder"]["name"]
    return (data if name == OWN_WORDS else Path("data", "encoders")) / name


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint as one of fairseq's own task.

    :param state: a checkpoint as `recipes.models.checkpoint.load_state` returns it.
    """
    from fairseq.criterions.sentence_prediction import SentencePredictionConfig as CriterionConfig
    from fairseq.tasks.sentence_prediction import SentencePredictionConfig

    task = options_of(state["cfg"]["task"], SentencePredictionConfig)
    criterion = options_of(state["cfg"]["task"], CriterionConfig)
    return plain_checkpoint(
        state,
        {**task, "_name": _CRITERION, "data": "."},
        {**criterion, "_name": _CRITERION},
        "SentencePredictionCriterion",
    )


def _check_encoder(corpus: Labelled, encoder: Path) -> None:
    """Raise RecipeError if the data were cut by another tokeniser."""
    digests = PreparedEncoder.read(encoder).digests
    if digests[TOKENIZER] != corpus.report["encoder"]["files"][TOKENIZER]:
        raise RecipeError(
            f"{encoder}: the texts of {corpus.data} were cut by another tokeniser: give the encoder"
            f" {corpus.report['encoder']['name']} that they were prepared for"
        )


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.sentences.export",
        description="Turn a checkpoint into a folder that predicts labels anywhere, with"
        " recipes.sentences.classify.",
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="directory made by data_prep, of the training"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--encoder",
        type=Path,
        metavar="DIR",
        help="directory of the encoder that DATA was prepared for (default: data/encoders/NAME; of"
        f" words, DATA/{OWN_WORDS})",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MODEL", help="the folder to write"
    )
    args = parser.parse_args()
    export(args.data, args.checkpoint, args.encoder or usual_encoder(args.data), args.out)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(
        f"{args.out}: {size / 1e6:.1f} MB; python -m recipes.sentences.classify {args.out} < TEXT"
    )


if __name__ == "__main__":
    sys.exit(run_main("recipes.sentences.export", _main))
