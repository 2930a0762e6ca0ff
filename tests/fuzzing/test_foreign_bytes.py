"""The promises of all readers of foreign bytes, for valid inputs that are damaged at random."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.support.errors import DataPrepError
from tests.fuzzing.foreign_bytes import READERS, try_input
from tests.fuzzing.promises import BrokenPromise, Reader, within_seconds


@st.composite
def damaged(draw: st.DrawFn, reader: Reader) -> bytes:
    """A seed with some of it overwritten, left out, repeated, or taken from another."""
    seeds = reader.seeds()
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 64)))
        other = draw(st.sampled_from(seeds))
        place = draw(st.integers(0, max(0, len(other) - 1)))
        content[start:end] = draw(
            st.one_of(
                st.binary(max_size=16),
                st.just(b""),
                st.sampled_from([b"\0", b"\xff" * 8, b"99999999999", b"\xf0\x9f", b"\n", b"<"]),
                st.just(bytes(content[start:end]) * 2),
                st.just(other[place : place + 64]),
            )
        )
    return bytes(content)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_keeps_its_promise(reader: str, tmp_path: Path) -> None:
    @settings(
        max_examples=150,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(damaged(READERS[reader]))
    def keeps(content: bytes) -> None:
        with within_seconds(5):
            try_input(reader, content, tmp_path / "scratch")

    keeps()


@pytest.mark.parametrize(
    ("reader", "broken"),
    [
        ("deb", "tests.fuzzing.data_prep_readers.read_deb"),
        ("archive", "tests.fuzzing.data_prep_readers.extract"),
        ("folders", "tests.fuzzing.data_prep_readers.gather"),
        ("segments", "tests.fuzzing.data_prep_readers.segment_pairs"),
        ("help", "tests.fuzzing.data_prep_readers.read_page"),
        ("text", "tests.fuzzing.data_prep_readers.clean_line"),
        ("encoder", "tests.fuzzing.sentence_readers.read_vocabulary"),
        ("tables", "tests.fuzzing.sentence_readers.write_raw"),
        ("index", "tests.fuzzing.sentence_readers.linked"),
        ("options", "tests.fuzzing.recipe_readers.contender"),
        ("log", "tests.fuzzing.recipe_readers.parse_log"),
    ],
)
def test_a_broken_promise_is_noticed(
    reader: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of readers that end without a result, or with an error that says nothing."""

    def silent(*_: object, **__: object) -> object:
        raise DataPrepError("line 1\nline 2\nline 3")

    def inputs() -> None:
        for seed in READERS[reader].seeds():
            try_input(reader, seed, tmp_path / "scratch")

    inputs()
    monkeypatch.setattr(broken, silent)
    with pytest.raises((BrokenPromise, DataPrepError)):
        inputs()
