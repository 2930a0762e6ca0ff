"""An encoder's pieces: read, put in fairseq's order, written as a dictionary and a tokeniser.

Of a tokeniser's file only numbers and strings are taken, and the tokeniser is built anew from them:
WordPiece as BERT cuts, or byte-level BPE as RoBERTa does. No text is taken for a special symbol.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from data_prep.encoders.hugging_face import damage, read_json
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing, read_lines

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""fairseq's first symbols, in its order."""
MASK = "<mask>"
"""Its last, which the task adds, so that it is not in the file."""

_ROLES = {
    "bert": ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"),
    "roberta": (*SPECIAL, MASK),
}


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by the row of the embedding that is theirs, and how text is cut into them.

    :param merges: of byte-level BPE; None for WordPiece.
    :param settings: the rest of what cutting depends on.
    """

    path: Path
    pieces: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] | None
    settings: Mapping[str, Any]

    @property
    def _roles(self) -> tuple[str, ...]:
        return _ROLES["bert" if self.merges is None else "roberta"]

    def order(self) -> list[int | None]:
        """Return the row of each of fairseq's symbols; None where there is no <mask>.

        Raises DataPrepError if there is no other of the special pieces.
        """
        rows = {piece: row for row, piece in enumerate(self.pieces)}
        for piece in self._roles[:-1]:
            if piece not in rows:
                raise DataPrepError(f"{self.path}: has no piece {piece}")
        special = [rows[piece] for piece in self._roles if piece in rows]
        taken = set(special)
        others = [row for row in range(len(self.pieces)) if row not in taken]
        mask = rows.get(self._roles[-1])
        return [*special[: len(SPECIAL)], *others, mask]

    def symbols(self) -> list[str]:
        """Return fairseq's symbols in its order, <mask> among them.

        Raises DataPrepError for a piece that fairseq's dictionaries cannot hold.
        """
        ordinary = [self.pieces[row] for row in self.order()[len(SPECIAL) : -1] if row is not None]
        symbols = [*SPECIAL, *ordinary, MASK]
        seen = {*SPECIAL, MASK}
        for piece in ordinary:
            wrong = None
            if not piece or any(map(str.isspace, piece)):
                wrong = "is empty, or has a space or an end of line in it"
            elif piece in seen:
                wrong = "is there twice, or the name of a special symbol of fairseq"
            elif not _is_text(piece):
                wrong = "is no text"
            if wrong:
                raise DataPrepError(
                    f"{self.path}: the piece {piece!r} {wrong}: fairseq's dictionaries cannot hold"
                    " it"
                )
            seen.add(piece)
        return symbols

    def write(self, directory: Path) -> None:
        """Write dict.txt and tokenizer.json."""
        symbols = self.symbols()
        with open_for_writing(directory / "dict.txt") as stream:
            for piece in symbols[len(SPECIAL) : -1]:
                stream.write(f"{piece} 1\n")
        numbers = {piece: number for number, piece in enumerate(symbols)}
        with damage(self.path):
            text = self._tokenizer(numbers).to_str()
        with open_for_writing(directory / "tokenizer.json") as stream:
            stream.write(text)

    def _tokenizer(self, numbers: dict[str, int]) -> Tokenizer:
        if self.merges is None:
            made = Tokenizer(
                models.WordPiece(numbers, unk_token="<unk>", max_input_chars_per_word=100)
            )
            made.normalizer = normalizers.BertNormalizer(**self.settings)
            made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            return made
        for pair in self.merges:
            if "".join(pair) in _ROLES["roberta"]:
                raise DataPrepError(f"{self.path}: merges {''.join(pair)}, a special symbol")
        made = Tokenizer(models.BPE(numbers, list(self.merges), unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(**self.settings)
        return made


def _is_text(piece: str) -> bool:
    try:
        piece.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, from JSON
        return False
    return True


def vocabulary_files(folder: Path, family: str) -> list[Path]:
    """Return the files that say how text is cut. Raises DataPrepError if they are missing."""
    names = ["vocab.txt"] if family == "bert" else ["vocab.json", "merges.txt"]
    if (folder / "tokenizer.json").exists():
        return [folder / "tokenizer.json"]
    if not all((folder / name).exists() for name in names):
        raise DataPrepError(f"{folder}: has neither tokenizer.json nor {' and '.join(names)}")
    if (folder / "tokenizer_config.json").exists():
        names.append("tokenizer_config.json")
    return [folder / name for name in names]


def read_vocabulary(folder: Path, family: str) -> Vocabulary:
    """Read an encoder's pieces, and how text is cut. Raises DataPrepError if that is not known."""
    files = {path.name: path for path in vocabulary_files(folder, family)}
    if path := files.get("tokenizer.json"):
        content = read_json(path)
        return (_word_pieces if family == "bert" else _byte_pieces)(path, content)
    settings = {}
    if path := files.get("tokenizer_config.json"):
        settings = read_json(path)
    if family == "bert":
        path = files["vocab.txt"]
        pieces = tuple(line.removesuffix("\r") for line in read_lines(path))
        flags = {
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        }
        return Vocabulary(path, pieces, None, _flags(path, flags))
    path = files["vocab.json"]
    merges = [
        tuple(line.removesuffix("\r").split(" "))
        for number, line in enumerate(read_lines(files["merges.txt"]))
        if line.strip() and not (number == 0 and line.startswith("#version"))
    ]
    space = {"add_prefix_space": settings.get("add_prefix_space", False)}
    return Vocabulary(
        path,
        _by_number(path, read_json(path)),
        _pairs(files["merges.txt"], merges),
        _flags(path, space),
    )


def _word_pieces(path: Path, content: dict[str, Any]) -> Vocabulary:
    model, normalizer = _part(content, "model"), _part(content, "normalizer")
    _expect(path, "model.type", model.get("type"), "WordPiece")
    _expect(path, "model.continuing_subword_prefix", model.get("continuing_subword_prefix"), "##")
    _expect(path, "normalizer.type", normalizer.get("type"), "BertNormalizer")
    _expect(
        path,
        "pre_tokenizer.type",
        _part(content, "pre_tokenizer").get("type"),
        "BertPreTokenizer",
    )
    names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    flags = _flags(path, {name: normalizer.get(name) for name in names})
    return Vocabulary(path, _all_pieces(path, content), None, flags)


def _byte_pieces(path: Path, content: dict[str, Any]) -> Vocabulary:
    model, cutting = _part(content, "model"), _part(content, "pre_tokenizer")
    _expect(path, "model.type", model.get("type"), "BPE")
    _expect(path, "model.dropout", model.get("dropout"), None)
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        _expect(path, f"model.{name}", model.get(name) or "", "")
    _expect(path, "model.byte_fallback", model.get("byte_fallback") or False, False)
    _expect(path, "model.ignore_merges", model.get("ignore_merges") or False, False)
    _expect(path, "normalizer", content.get("normalizer"), None)
    _expect(path, "pre_tokenizer.type", cutting.get("type"), "ByteLevel")
    _expect(path, "pre_tokenizer.use_regex", cutting.get("use_regex", True), True)
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise DataPrepError(f"{path}: has no merges")
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else m for m in merges]
    flags = _flags(path, {"add_prefix_space": cutting.get("add_prefix_space", False)})
    return Vocabulary(path, _all_pieces(path, content), _pairs(path, pairs), flags)


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _expect(path: Path, what: str, found: object, known: object) -> None:
    if found != known:
        raise DataPrepError(f"{path}: {what} is {str(found)[:60]!r}; only {known!r} is known")


def _flags(path: Path, flags: dict[str, Any]) -> dict[str, Any]:
    for name, value in flags.items():
        if not isinstance(value, bool) and not (name == "strip_accents" and value is None):
            raise DataPrepError(f"{path}: {name} is {str(value)[:60]!r}, not true or false")
    return flags


def _all_pieces(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Return the pieces of the model and those that were added to it."""
    numbers = dict(_part(_part(content, "model"), "vocab"))
    added = content.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict):
            piece, number = token.get("content"), token.get("id")
            if not isinstance(piece, str) or numbers.setdefault(piece, number) != number:
                raise DataPrepError(f"{path}: {str(piece)[:60]!r} has two numbers")
    return _by_number(path, numbers)


def _by_number(path: Path, numbers: dict[str, Any]) -> tuple[str, ...]:
    pieces: list[str | None] = [None] * len(numbers)
    for piece, number in numbers.items():
        if type(number) is not int or not 0 <= number < len(pieces) or not isinstance(piece, str):
            raise DataPrepError(f"{path}: {piece!r} has the number {str(number)[:30]}")
        pieces[number] = piece
    found = tuple(piece for piece in pieces if piece is not None)
    if len(found) < len(pieces):
        raise DataPrepError(f"{path}: two pieces have one number")
    return found


def _pairs(path: Path, merges: list[Any]) -> tuple[tuple[str, str], ...]:
    for number, pair in enumerate(merges):
        whole = isinstance(pair, list | tuple) and len(pair) == 2
        if not whole or not all(isinstance(part, str) and part for part in pair):
            raise DataPrepError(f"{path}: merge {number + 1} is not of two pieces")
    return tuple((first, second) for first, second in merges)
