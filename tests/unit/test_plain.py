"""What somebody else wrote moves no cursor and turns no line round."""

import sys
import unicodedata

import pytest

from waportd.plain import one_line, plain

UNSEEN = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zl", "Zp", "Cs"} and chr(code) not in "\t\n"
]


def test_nothing_is_left_that_is_not_seen_in_any_plane():
    assert len(UNSEEN) > 2000
    assert plain("".join(UNSEEN)) == ""
    assert plain(f"a{UNSEEN[0]}b", "\ufffd") == "a\ufffdb"


@pytest.mark.parametrize(
    "text", ["plain", "Zoë", "日本語", "مرحبا", "שלום", "😀 👍🏽", "a\tb\nc", "₿ ½ … –", "\ue000", ""]
)
def test_what_is_seen_stays(text):
    assert plain(text) == text


def test_a_line_stays_one():
    assert one_line("a\r\nb\tc\u2028d\x1b[31m") == "a b cd[31m"
