"""Which of several a caller likes best."""

import pytest

from waportd.api.accept import best_language, preferences


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("text/html, Image/*;q=0.5", [("text/html", 1.0), ("image/*", 0.5)]),
        ("a;level=1;q=0.123;x=y, b; q=1.000 ", [("a", 0.123), ("b", 1.0)]),
        ("pt;q=x, de;q=5, en;q=0.1234, nl;q=", [("pt", 0), ("de", 0), ("en", 0), ("nl", 0)]),
        ("", [("", 1.0)]),
    ],
)
def test_a_header_names_each_with_its_quality(header, named):
    assert list(preferences(header)) == named


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("en-GB, pt;q=0.9", "English"),
        ("pt-BR;q=0.9, en;q=0.9", "Portuguese"),
        ("en;q=5, pt;q=0.1", "Portuguese"),
        ("pt;q=x", "Portuguese"),
        ("de, fr;q=0.3", "none"),
        ("", "none"),
    ],
)
def test_the_language_that_is_liked_best_is_taken_of_those_there_are(header, language):
    assert best_language(header, {"en": "English", "pt": "Portuguese"}, "none") == language
