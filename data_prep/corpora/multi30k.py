"""Multi30k, task 1: captions of pictures, translated (Elliott et al. 2016), from its repository."""

from argparse import Namespace
from pathlib import Path

from data_prep.corpora.corpus import CorpusEntry
from data_prep.corpora.files import FilesCorpus
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, unpacked

_HOME = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
_FILES = {
    "train.de": (637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "train.en": (568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "val.de": (24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "val.en": (21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
    "test_2016_flickr.de": (
        22_890,
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ),
    "test_2016_flickr.en": (
        21_077,
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ),
}
_PREFIXES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}


def _load(args: Namespace, out: Path) -> FilesCorpus:
    contents = {
        Archive(f"{name}.gz", (f"{_HOME}{name}.gz",), size, f"sha256:{sha256}"): [name]
        for name, (size, sha256) in _FILES.items()
    }
    files = unpacked(contents, args.archive, out)
    return FilesCorpus(
        "en", "de", {split: str(files / prefix) for split, prefix in _PREFIXES.items()}
    )


ENTRIES = [
    CorpusEntry(
        "multi30k-en-de", "Multi30k, English to German; test is 2016's", add_archive_option, _load
    )
]
