"""A corpus' release on this machine: its archives, downloaded or given, and the files in them."""

from argparse import ArgumentParser
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from data_prep.sources.archives import extract, gather
from data_prep.sources.download import Archive, download
from data_prep.stages import run_stage, say, sha256_of
from data_prep.support.errors import DataPrepError


def google_drive(key: str) -> str:
    """Return where Google Drive gives out a file without asking about viruses first."""
    return f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"


_OF_A_CORPUS = (
    "a copy of the corpus' archive, or copies of its archives, to read instead of downloading them"
)


def add_archive_option(parser: ArgumentParser, about: str = _OF_A_CORPUS) -> None:
    """Let the user give copies of the archives.

    :param about: them, for the help.
    """
    parser.add_argument(
        "--archive",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help=about,
    )


def unpacked(
    contents: Mapping[Archive, Sequence[str]],
    given: Iterable[Path],
    out: Path,
    inner: str | None = None,
) -> Path:
    """Return the directory with the files that are wanted of each archive, by their names in it.

    Archives that are not ``given`` are downloaded to ``out``/download. If one has an archive called
    ``inner`` in it, the files are in that.
    """
    paths = at_hand(list(contents), given, out / "download")
    digests = {archive.name: sha256_of(path) for archive, path in paths.items()}

    def build(directory: Path) -> dict[str, object]:
        for archive, names in contents.items():
            extract(paths[archive], names, directory, inner)
        return {"archives": digests}

    key = {"archives": digests, "files": {a.name: list(names) for a, names in contents.items()}}
    return run_stage(out / "release", key, build, origin=" ".join(digests)).path


def gathered(
    archive: Archive, folders: Mapping[str, str], encoding: str, given: Iterable[Path], out: Path
) -> Path:
    """Return the directory with a file for each of an archive's folders: see `archives.gather`.

    It is downloaded to ``out``/download unless it is ``given``.
    """
    path = at_hand([archive], given, out / "download")[archive]
    digests = {archive.name: sha256_of(path)}

    def build(directory: Path) -> dict[str, object]:
        gather(path, folders, encoding, directory)
        return {"archives": digests}

    key = {"archives": digests, "folders": dict(folders), "encoding": encoding}
    return run_stage(out / "release", key, build, origin=" ".join(digests)).path


def given_files(
    given: Iterable[Path], names: Mapping[str, str], optional: Collection[str] = ()
) -> dict[str, Path]:
    """Return the files by split, if it is these that are ``given``, and not the archive.

    :param names: of the files in the archive, by split.
    :param optional: splits that may be missing.
    """
    by_name = {path.name: path for path in given}
    if not by_name.keys() & set(names.values()):
        return {}
    for name, path in by_name.items():
        if name not in names.values():
            raise DataPrepError(
                f"--archive {path}: not one of the files: {', '.join(names.values())}"
            )
    if missing := [n for split, n in names.items() if n not in by_name and split not in optional]:
        raise DataPrepError(f"--archive: {' and '.join(missing)} of the files is missing")
    return {split: by_name[name] for split, name in names.items() if name in by_name}


def at_hand(
    archives: Sequence[Archive], given: Iterable[Path], downloads: Path
) -> dict[Archive, Path]:
    """Return where each archive is: as it is ``given``, or else downloaded to ``downloads``."""
    paths = _assigned(list(archives), list(given))
    for archive in archives:
        if archive not in paths:
            paths[archive] = download(archive, downloads)
        elif wrong := archive.what_is_wrong(paths[archive]):
            say(f"{paths[archive]}: {wrong}; read all the same")
    return paths


def _assigned(archives: list[Archive], given: list[Path]) -> dict[Archive, Path]:
    """Say which file is which archive: by name, unless there is but one of each."""
    if len(archives) == len(given) == 1:
        return {archives[0]: given[0]}
    by_name = {archive.name: archive for archive in archives}
    for path in given:
        if path.name not in by_name:
            raise DataPrepError(
                f"--archive {path}: not one of this corpus' archives: {', '.join(by_name)}"
            )
    return {by_name[path.name]: path for path in given}
