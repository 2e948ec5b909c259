"""The blocklist: what counts as a word, and files that are wrong."""

from __future__ import annotations

import pytest

from overpaint.core.errors import InvalidSettings
from overpaint.safety import blocklist

LISTS = """
[[lists]]
language = "en"
category = "violence"
severity = 4
words = ["blood bath", "GORE"]
patterns = ["Behead(s|ed|ing)?\\\\b"]

[[lists]]
language = "ja"
words = ["流血"]
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text(LISTS, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a kite in the sky", {"blocklist": 0}),
        ("", {"blocklist": 0}),
        ("a Blood-Bath", {"blocklist": 0, "violence": 4}),
        ("blood   bath", {"blocklist": 0, "violence": 4}),
        ("bloodbath", {"blocklist": 0}),
        ("gore!", {"blocklist": 0, "violence": 4}),
        ("Al Gore's category", {"blocklist": 0, "violence": 4}),
        ("gorerunner", {"blocklist": 0}),
        ("go\u200bre", {"blocklist": 0, "violence": 4}),
        ("ｇｏｒｅ", {"blocklist": 0, "violence": 4}),
        ("BEHEADED", {"blocklist": 0, "violence": 4}),
        ("大流血です", {"blocklist": 6}),
    ],
)
def test_what_counts(file, text, found):
    assert blocklist.load(file).check(text) == found


def test_languages(file):
    assert blocklist.load(file, ["en"]).check("流血") == {"blocklist": 0}
    assert blocklist.load(file, ["ja"]).check("流血") == {"blocklist": 6}


@pytest.mark.parametrize(
    "content",
    [
        "lists = 3",
        "[[lists]]\nwords = ['']",
        "[[lists]]\npatterns = ['(']",
        "[[lists]]\npatterns = 'abc'",
        "[[lists]]\npatterns = [5]",
        "[[lists]]\nseverity = 9\nwords = ['x']",
        "[[lists]]\ncategory = 'rude'\nwords = ['x']",
        "[[lists]]\nword = ['x']",
        "[[lists]]",
        "not toml",
    ],
)
def test_a_wrong_file_is_an_error(tmp_path, content):
    file = tmp_path / "words.toml"
    file.write_text(content)
    with pytest.raises(InvalidSettings) as error:
        blocklist.load(file)
    assert str(file) in str(error.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InvalidSettings, match="cannot be read"):
        blocklist.load(tmp_path / "none.toml")
