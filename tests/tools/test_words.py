"""The words that docs/glossary.md says to avoid."""

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
