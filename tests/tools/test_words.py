"""The words that docs/glossary.md says to avoid."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def words(*files):
    answer = subprocess.run([ROOT / "tools/words", *files], capture_output=True, text=True, check=False)
    return answer.returncode, answer.stdout.splitlines()


def test_a_word_to_avoid_is_found_with_its_line_and_a_better_one(tmp_path):
    text = tmp_path / "text.md"
    text.write_text("It begins\nanew. Nobody has to go\n# on with it.\nThat is fine: anewly.\n")
    assert words(text) == (
        1,
        [f"{text}:2: 'anew'; better: again, new, re-", f"{text}:2: 'go on'; better: continue"],
    )


def test_the_glossary_may_name_what_it_warns_of():
    assert words("docs/glossary.md") == (0, [])


def test_other_languages_and_what_was_said_then_are_left_alone():
    assert words("CHANGELOG.md") == (0, [])


PYTHON = '''\
"""Who begins anew."""

told = "anew"  # it goes on


def test_who_tells_it():
    """Nothing is said
    by itself."""
    phone.tell("scan", anew=True)
'''
JAVASCRIPT = """\
/** Who begins anew. */
const told = 'anew'; // it goes on
test('tells it', () => phone.tell('scan', { anew: true }));
describe.each(all)(`is not looked at`, () => tell('https://example.com'));
    it.skip('mends', () => {});
"""


def test_of_a_test_only_its_comments_and_names_are_read(tmp_path):
    for name, source, found in (
        ("a.py", PYTHON, [(1, "anew"), (3, "goes on"), (6, "tells"), (8, "by itself")]),
        ("a.test.js", JAVASCRIPT, [(1, "anew"), (2, "goes on"), (3, "tells"), (5, "mends")]),
        ("a.md", "Of a text\nall is told.\n", [(2, "told")]),
    ):
        (tmp_path / name).write_text(source)
        file = f"tests/{os.path.relpath(tmp_path / name, ROOT / 'tests')}"
        status, lines = words(file)
        assert status == 1
        assert [line.partition(";")[0] for line in lines] == [f"{file}:{at}: {word!r}" for at, word in found]
