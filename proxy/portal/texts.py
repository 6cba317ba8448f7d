"""All words of the portal: one file per language in ``texts/``. English is whole; so must the others be."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

__all__ = ["LANGUAGES", "Texts", "preferred", "texts_of"]

_LONGEST = 2_000
_DEEPEST = 4
_SLOTS = {
    "call_class": r"\w+",
    "line": r"\d+",
    "count": r"\d+",
    "treatment": "allow|optional code|required code|block",
    # A name in quotes holds anything, as Python writes it; one without is a word.
    "name": r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'";,]+""",
}


def _languages() -> dict[str, str]:
    """The languages there are files of, by their own names; English first."""
    found = {}
    for file in resources.files(__package__).joinpath("texts").iterdir():
        code, _, kind = file.name.partition(".")
        if kind == "toml":
            found[code] = str(tomllib.loads(file.read_text("utf-8"))["base"]["own_name"])
    return dict(sorted(found.items(), key=lambda one: (one[0] != "en", one[1])))


LANGUAGES = _languages()
"""What a language is called in itself, by its code: a file in ``texts/`` is a language."""


class Texts:
    """The words of one language. Called with a key and what stands in its braces."""

    def __init__(self, language: str, words: dict[str, str]) -> None:
        self.language = language
        self.words = words

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text. Raises KeyError for one that is not there."""
        return self.words[key].format_map(values) if values else self.words[key]

    def told(self, said: object) -> str:
        """Return what gate, policy or store say in English (a refusal, a reason) in this language.

        The English sentence is the key, as in gettext: those who say it know nothing of languages. What the
        catalogue does not hold stays as it is.
        """
        sentence = str(said)
        if self.language == "en" or len(sentence) > _LONGEST:
            return sentence
        return "\n".join(self._told(line) for line in sentence.split("\n"))

    def _told(self, sentence: str, depth: int = 0) -> str:
        for key, pattern in _sentences():
            if depth < _DEEPEST and (found := pattern.fullmatch(sentence)):
                values = {name: self._value(name, value, depth) for name, value in found.groupdict().items()}
                return self(f"said.{key}", **values)
        return sentence

    def _value(self, name: str, value: str, depth: int) -> str:
        """What stood in a sentence: a word of a list, a sentence of its own, or what somebody has typed."""
        match name:
            case "call_class":
                return self.words.get(f"class.{value}", value)
            case "treatment":
                return self.words.get(f"groups.treatment_{value.partition(' ')[0]}", value)
            case "how" | "reason" | "outside" | "held":
                return self._told(value, depth + 1)
        return value


@cache
def _sentences() -> list[tuple[str, re.Pattern[str]]]:
    """The English sentences, those that leave least open first."""
    keys = [key.removeprefix("said.") for key in texts_of("en").words if key.startswith("said.")]
    keys.sort(key=lambda key: (-len(re.sub(r"{\w+}", "", key)), key))
    return [(key, re.compile(re.sub(r"\\{(\w+)\\}", _slot, re.escape(key)))) for key in keys]


def _slot(found: re.Match[str]) -> str:
    """What may stand in the place of a value."""
    return f"(?P<{found[1]}>{_SLOTS.get(found[1], '.+')})"


@cache
def texts_of(language: str) -> Texts:
    """Return the texts of a language of `LANGUAGES`."""
    data = resources.files(__package__).joinpath("texts", f"{language}.toml").read_bytes()
    words = {
        f"{section}.{name}": text
        for section, lines in tomllib.loads(data.decode()).items()
        for name, text in lines.items()
    }
    return Texts(language, words)


def preferred(header: str) -> str:
    """Return the language that a browser likes best of those there are (RFC 9110 §12.5.4)."""
    best, best_weight = "en", 0.0
    for part in header[:500].split(","):
        tag, _, weight_text = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        try:
            weight = float(weight_text.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language in LANGUAGES and best_weight < weight <= 1:
            best, best_weight = language, weight
    return best
