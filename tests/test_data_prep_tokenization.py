"""Tokens against Moses' own tokenizer.perl, whose output on these sentences is written down here.

Made with revision 34452895f of mosesdecoder: `tokenizer.perl -q -l LANG`, and
`tokenizer.perl -q -l LANG -a -no-escape | lowercase.perl`. Left out are spaces in excess: Moses
writes some where a sentence ends in `.'`.
"""

import pytest

from data_prep.preparation import Preparation
from data_prep.tokenization import tokenizer

# language, sentence, tokens, tokens with other options
MOSES = [
    (
        "en",
        "He lives in the U.S.",
        "He lives in the U.S .",
        "he lives in the u.s .",
    ),
    (
        "en",
        "It's Mr. Smith's dog, isn't it?",
        "It &apos;s Mr. Smith &apos;s dog , isn &apos;t it ?",
        "it 's mr. smith 's dog , isn 't it ?",
    ),
    (
        "en",
        "Prices rose 3,500.50 % (from $1,200) in the 1990's.",
        "Prices rose 3,500.50 % ( from $ 1,200 ) in the 1990 &apos;s .",
        "prices rose 3,500.50 % ( from $ 1,200 ) in the 1990 's .",
    ),
    (
        "en",
        "See e.g. p. 5, No. 7, and so on...",
        "See e.g. p . 5 , No. 7 , and so on ...",
        "see e.g. p . 5 , no. 7 , and so on ...",
    ),
    (
        "en",
        "\"Well,\" she said, 'that's AT&T's <b> | [x].'",
        "&quot; Well , &quot; she said , &apos; that &apos;s AT &amp; T &apos;s"
        " &lt; b &gt; &#124; &#91; x &#93; . &apos;",
        "\" well , \" she said , ' that 's at & t 's < b > | [ x ] . '",
    ),
    (
        "en",
        "Wait.... what?! a,b,c and 1,2,3, ok",
        "Wait .... what ? ! a , b , c and 1,2,3 , ok",
        "wait .... what ? ! a , b , c and 1,2,3 , ok",
    ),
    (
        "en",
        "E-mail a@b.org or look at http://x.org/a?b=c.",
        "E-mail a @ b.org or look at http : / / x.org / a ? b = c .",
        "e @-@ mail a @ b.org or look at http : / / x.org / a ? b = c .",
    ),
    (
        "en",
        "Dr. J. R. Ewing vs. the rock 'n' roll band etc.",
        "Dr. J. R. Ewing vs. the rock &apos; n &apos; roll band etc .",
        "dr. j. r. ewing vs. the rock ' n ' roll band etc .",
    ),
    (
        "en",
        "The end of line, 5,",
        "The end of line , 5 ,",
        "the end of line , 5 ,",
    ),
    (
        "en",
        "Σίσυφος and ΟΔΟΣ",
        "Σίσυφος and ΟΔΟΣ",
        "σίσυφος and οδοσ",
    ),
    (
        "en",
        "no full stop",
        "no full stop",
        "no full stop",
    ),
    (
        "de",
        "Das kostet z. B. 3,5 % mehr, usw.",
        "Das kostet z. B. 3,5 % mehr , usw .",
        "das kostet z. b. 3,5 % mehr , usw .",
    ),
    (
        "de",
        "Er kam am 3. Mai 1999 um 5 Uhr, bzw. später.",
        "Er kam am 3. Mai 1999 um 5 Uhr , bzw. später .",
        "er kam am 3. mai 1999 um 5 uhr , bzw. später .",
    ),
    (
        "de",
        "„So ist's“, sagte Dr. Müller-Lüdenscheidt.",
        "„ So ist &apos; s “ , sagte Dr. Müller-Lüdenscheidt .",
        "„ so ist ' s “ , sagte dr. müller @-@ lüdenscheidt .",
    ),
    (
        "de",
        "Am 24.12. ist Weihnachten, i.d.R.",
        "Am 24.12. ist Weihnachten , i.d.R .",
        "am 24.12. ist weihnachten , i.d.r .",
    ),
    (
        "fr",
        "L'homme qu'il a vu aujourd'hui s'appelle « d'Artagnan ».",
        "L&apos; homme qu&apos; il a vu aujourd&apos; hui s&apos; appelle « d&apos; Artagnan » .",
        "l' homme qu' il a vu aujourd' hui s' appelle « d' artagnan » .",
    ),
    (
        "fr",
        "C'est M. Dupont, etc.",
        "C&apos; est M. Dupont , etc .",
        "c' est m. dupont , etc .",
    ),
    (
        "fr",
        "Qu'est-ce que c'est que 3'4 ?",
        "Qu&apos; est-ce que c&apos; est que 3 &apos; 4 ?",
        "qu' est @-@ ce que c' est que 3 ' 4 ?",
    ),
    (
        "vi",
        "TP. Hồ Chí Minh có 9.000.000 người, v.v.",
        "TP . Hồ Chí Minh có 9.000.000 người , v.v .",
        "tp . hồ chí minh có 9.000.000 người , v.v .",
    ),
    (
        "vi",
        "Anh ấy nói: 'Tôi không biết'.",
        "Anh ấy nói : &apos; Tôi không biết &apos; .",
        "anh ấy nói : ' tôi không biết ' .",
    ),
]


@pytest.mark.parametrize(("lang", "sentence", "tokens", "others"), MOSES)
def test_tokens_are_those_of_moses(lang: str, sentence: str, tokens: str, others: str) -> None:
    assert tokenizer(lang, Preparation(escapes=True))([sentence]) == [tokens]
    variant = Preparation(splits_dashes=True, lower_cases=True)
    assert tokenizer(lang, variant)([sentence]) == [others]
