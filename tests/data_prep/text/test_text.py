"""Lines, sentences and filters: the parts of data_prep that look at one line or pair."""

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpora.filters import BAD_MATCH, CODE, SAME, UNTRANSLATED, reason_to_drop
from data_prep.preparation import Preparation
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import count_lines, read_lines
from data_prep.text.cleaning import CONTROL, INVISIBLE, SEPARATOR, clean_line, strip_line
from data_prep.text.sentences import split_sentences
from data_prep.text.tokenization import tokenizer


@pytest.mark.parametrize(
    ("line", "clean", "repairs"),
    [
        ("a plain line", "a plain line", {}),
        ("Stra\u00dfe  und\u00a0Weg\u2009", "Straße und Weg", {}),
        ("u\u0308ber", "über", {}),
        ("u\x00\u0308ber u\u200b\u0308ber", "über über", {CONTROL: 1, INVISIBLE: 1}),
        ("Silben\u00adtrennung\u200b", "Silbentrennung", {INVISIBLE: 1}),
        ("\ufeffBOM", "BOM", {INVISIBLE: 1}),
        ("\u061c(\u0645)", "(\u0645)", {INVISIBLE: 1}),
        ("dos line\r", "dos line", {SEPARATOR: 1}),
        ("torn\u2028line\u0085here\x0c", "torn line here", {SEPARATOR: 1}),
        ("bell\x07 \x00nul\x9f", "bell nul", {CONTROL: 1}),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e", {}),  # Persian spelling
        (" \u200b\u00ad\r ", "", {INVISIBLE: 1, SEPARATOR: 1}),
    ],
)
def test_clean_line(line: str, clean: str, repairs: dict[str, int]) -> None:
    counter: Counter[str] = Counter()
    assert clean_line(line, counter) == clean
    assert counter == repairs


@given(st.text())
def test_a_clean_line_is_one_line_for_every_tool(line: str) -> None:
    clean = clean_line(line, Counter())
    assert len(clean.splitlines()) <= 1
    assert clean == " ".join(clean.split())
    assert unicodedata.is_normalized("NFC", clean)
    assert clean_line(clean, Counter()) == clean


@pytest.mark.parametrize(
    ("line", "stripped", "repairs"),
    [
        (" a  plain line ", "a  plain line", {}),
        ("dos line\r", "dos line", {SEPARATOR: 1}),
        ("torn\u2028line\u0085here\x0c", "torn line here", {SEPARATOR: 1}),
        ("bell\x07 \x00nul \x9f\x1f", "bell nul \x9f", {CONTROL: 1}),
        ("soft\u00adhyphen u\u0308", "soft\u00adhyphen u\u0308", {}),
    ],
)
def test_strip_line(line: str, stripped: str, repairs: dict[str, int]) -> None:
    counter: Counter[str] = Counter()
    assert strip_line(line, counter) == stripped
    assert counter == repairs


# Of these four tokenizer.perl makes nothing, and sacremoses a space.
@given(st.text(st.characters(exclude_characters="\x1c\x1d\x1e\x1f\n")))
def test_stripping_does_not_change_tokens(line: str) -> None:
    tokenize = tokenizer("en", Preparation(repairs=False, escapes=True))
    assert tokenize([strip_line(line, Counter())]) == tokenize([line])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"))))
def test_only_line_feed_ends_a_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    assert list(read_lines(path)) == lines
    assert count_lines(path) == len(lines)


@given(st.binary())
def test_any_bytes_are_lines_or_a_plain_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "text"
    path.write_bytes(content)
    try:
        lines = list(read_lines(path))
    except DataPrepError as error:
        assert str(path) in str(error)
    else:
        assert "\n".join(lines) == content.decode().removesuffix("\n")


def test_not_utf8_names_file_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin1.de"
    path.write_bytes("gut\nschön".encode("latin-1"))
    with pytest.raises(DataPrepError, match=r"latin1\.de: line 2 is not UTF-8 .*0xf6, number 4"):
        list(read_lines(path))


@pytest.mark.parametrize(
    ("lang", "sentences"),
    [
        ("de", ["Klicken Sie auf OK.", "Wählen Sie dann z.B. Datei aus."]),
        ("de", ["Es gibt z. B. Äpfel, d. h. Obst usw. Dinge."]),
        ("de", ["Am 14. September beginnt es.", "Das ist gut!"]),
        ("de", ["Er sagte: „Komm!“", "Dann ging er."]),
        ("en", ["Use a name, e.g. Table or i.e. This one.", "Then press Enter."]),
        ("en", ["See Fig. A for No. 5 of it."]),
        ("en", ['Is it "done"?', "(Yes.)", "The value is 3.", "All of 1.5 is read."]),
        ("en", ["Open file.txt now...", "Wait … and see"]),
        ("fr", ["Choisissez un nom, p. ex. Table.", "Cliquez sur OK."]),
        ("vi", ["Nhấn nút OK.", "Đây là tùy chọn mặc định."]),
    ],
)
def test_split_sentences(lang: str, sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences), lang) == sentences


@given(st.text(), st.sampled_from(["de", "en", "fr", "vi"]))
def test_splitting_loses_nothing_but_space(text: str, lang: str) -> None:
    sentences = split_sentences(text, lang)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("Öffnet den Dialog.", "Opens the dialog.", None),
        ("Breite", "Width", None),
        ("Am 5. Mai um 14:30 Uhr", "On May 5 at 14:30", None),
        ("LibreOffice Writer", "LibreOffice Writer", SAME),
        ("=SUMME(A1;B2) ergibt 3.", "=SUM(A1;B2) returns 3.", CODE),
        ("Siehe https://example.org dafür", "See https://example.org for it", CODE),
        ("Der Pfad C:\\Temp ist gut", "The path C:\\Temp is good", CODE),
        ("Die Methode Raise() hilft", "The Raise() method helps", CODE),
        ("1, 2, 3, …", "1, 2, 3, ...", CODE),
        ("Die Seite hat 5 Spalten.", "The page has 6 columns.", BAD_MATCH),
        ("Klicken Sie hier und dann auf die Schaltfläche.", "Click.", BAD_MATCH),
        (
            "Opens the dialog that is on the page.",
            "Opens the dialogue which is on it.",
            UNTRANSLATED,
        ),
        ("The page of the file", "Click to close it", UNTRANSLATED),
    ],
)
def test_reason_to_drop(source: str, target: str, reason: str | None) -> None:
    assert reason_to_drop(source, target, "de", "en") == reason


@given(st.text(), st.text())
def test_filters_judge_any_text(source: str, target: str) -> None:
    assert reason_to_drop(source, target, "de", "en") in (None, SAME, CODE, BAD_MATCH, UNTRANSLATED)
