"""All words of the portal: one file per language in ``texts/``. English is whole; so must the others be."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

__all__ = ["LANGUAGES", "Texts", "preferred", "texts_of"]

LANGUAGES = {"en": "English", "es": "Español", "de": "Deutsch"}


class Texts:
    """The words of one language. Called with a key and what stands in its braces."""

    def __init__(self, language: str, words: dict[str, str]) -> None:
        self.language = language
        self.words = words

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text. Raises KeyError for one that is not there."""
        return self.words[key].format_map(values) if values else self.words[key]


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
