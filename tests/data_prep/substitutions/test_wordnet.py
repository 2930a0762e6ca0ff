"""WordNet's files: who is whose synonym and antonym, forms of words, and files that are no such."""

from __future__ import annotations

import pytest

from data_prep.substitutions.inflection import KINDS, Forms, Reading, regular_forms
from data_prep.substitutions.wordnet import FILES, Lexicon, WordNet, read_wordnet
from data_prep.support.errors import DataPrepError
from tests.data_prep.substitutions import made


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return read_wordnet(made.files())


def test_synonyms_are_of_the_first_sense_and_related_words_of_any(wordnet: WordNet) -> None:
    noun = wordnet["noun"]
    assert noun.synonyms["film"] == {"movie"} and noun.synonyms["movie"] == {"film"}
    assert noun.related["film"] == {"movie", "foil"}
    # The foil's own first sense is the film's second one.
    assert noun.synonyms["foil"] == set() and noun.related["foil"] == {"film"}
    assert wordnet["adj"].related["good"] == {"fine"} and wordnet["adj"].synonyms["good"] == set()


def test_names_and_words_of_several_parts_are_left_out(wordnet: WordNet) -> None:
    words = {word for lexicon in wordnet.values() for word in lexicon.synonyms}
    assert not {"monday", "Monday", "mon", "moving_picture", "plastic_film"} & words
    assert "fine" in words  # which is fine(a) there


def test_antonyms_are_of_words(wordnet: WordNet) -> None:
    """Of rise and climb, which are one synset, only one has an antonym."""
    assert wordnet["verb"].antonyms == {"rise": {"fall"}, "fall": {"rise"}}
    assert wordnet["adj"].antonyms["good"] == {"bad"}


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("data.noun", b"00000040 00 n 02", b"00000040 00 n zz", "data.noun: line 5 is none"),
        ("data.noun", b"! 00000050", b"! 00000051", "there is no synset 00000051"),
        ("data.verb", b"0201", b"0901", "synset 00000060: an antonym is not there"),
        ("index.adj", b"00000090  \n", b"\n", "index.adj: line 2 is none of WordNet's"),
        ("verb.exc", b"rose rise", b"rose", "verb.exc: line 1 is none of WordNet's"),
        ("noun.exc", b"child\n", b"ch\xefld\n", "noun.exc: line 1 is none of WordNet's"),
    ],
)
def test_a_line_that_is_none(name: str, old: bytes, new: bytes, message: str) -> None:
    files = made.files()
    assert old in files[name]
    files[name] = files[name].replace(old, new, 1)
    with pytest.raises(DataPrepError, match=message):
        read_wordnet(files)


def test_a_file_that_is_missing() -> None:
    files = made.files()
    del files["index.verb"], files["adv.exc"]
    with pytest.raises(DataPrepError, match=r"there is no index\.verb, no adv\.exc"):
        read_wordnet(files)


# ---- Forms ---------------------------------------------------------------------------------------


REGULAR = """
noun plural: film films; church churches; box boxes; city cities; day days; bus buses; fish fishes
verb third: rise rises; watch watches; carry carries; play plays; go goes; fix fixes
verb past: walk walked; agree agreed; like liked; carry carried; play played; stop stopped
verb past: plan planned; die died; tie tied; dye dyed; fix fixed; open opened; visit visited
verb gerund: walk walking; agree agreeing; like liking; die dying; dye dyeing; carry carrying
verb gerund: stop stopping; run running; see seeing; hoe hoeing; quit quitting; fix fixing
adj comparative: big bigger; happy happier; nice nicer; old older; free freer
adj superlative: big biggest; happy happiest; nice nicest; grey greyest
"""


def test_regular_forms() -> None:
    """The first of the candidates, where no list of words says which."""
    checked = 0
    for line in REGULAR.strip().splitlines():
        (part, kind), pairs = line.split(":")[0].split(), line.split(":")[1].split(";")
        for lemma, form in (pair.split() for pair in pairs):
            assert regular_forms(lemma, part, kind)[0] == form, (lemma, form)
            checked += 1
    assert checked == 47


def test_where_spelling_does_not_say_it_known_words_do() -> None:
    assert regular_forms("admit", "verb", "past") == ("admited", "admitted")
    assert regular_forms("photo", "noun", "plural") == ("photos", "photoes")
    assert regular_forms("beautiful", "adj", "comparative") == ()


def lexicon(**exceptions: str) -> WordNet:
    """Verbs with irregular forms, and nothing else."""
    none = Lexicon({}, {}, {}, {})
    lemmas = {lemma: frozenset[str]() for lemma in exceptions}
    forms = {lemma: tuple(of.split()) for lemma, of in exceptions.items()}
    return {part: none for part in KINDS} | {"verb": Lexicon(lemmas, lemmas, {}, forms)}


def test_irregular_verbs() -> None:
    verbs = {
        "go": ("went gone", "went", "gone"),
        "break": ("broke broken", "broke", "broken"),
        "sing": ("sang sung", "sang", "sung"),
        "begin": ("began begun beginning", "began", "begun"),
        "know": ("knew known", "knew", "known"),
        "do": ("did done does", "did", "done"),
        "buy": ("bought", "bought", "bought"),
        "come": ("came", "came", "come"),
        "run": ("ran running", "ran", "run"),
        "win": ("won winning", "won", "won"),
        "see": ("saw seen", "saw", "seen"),
        "lie": ("lay lain lying", "lay", "lain"),
        "put": ("putting", "put", "put"),
    }
    wordnet = lexicon(**{lemma: of for lemma, (of, _, _) in verbs.items()})
    known = {*verbs, "lying", *(form for of, _, _ in verbs.values() for form in of.split())}
    forms = Forms(wordnet, known)
    for lemma, (_, past, participle) in verbs.items():
        found = forms.form("verb", lemma, "past"), forms.form("verb", lemma, "participle")
        assert found == (past, participle), lemma
    assert forms.form("verb", "do", "third") == "does"
    assert forms.form("verb", "run", "gerund") == "running"
    assert forms.readings("run") == (
        Reading("verb", "run", "base"),
        Reading("verb", "run", "participle"),
    )


def test_forms_are_known_words(wordnet: WordNet) -> None:
    forms = Forms(wordnet, made.vectors())
    assert forms.form("noun", "child", "plural") == "children"
    assert forms.form("adj", "good", "comparative") == "better"
    assert forms.form("verb", "climb", "participle") == "climbed"
    assert forms.form("verb", "climb", "gerund") is None  # without a vector
    assert forms.readings("climbed") == (
        Reading("verb", "climb", "participle"),
        Reading("verb", "climb", "past"),
    )
    assert forms.readings("monday") == forms.readings("nothing") == ()
    assert set(forms) <= set(made.vectors()) and set(FILES) - set(made.files()) == set()
