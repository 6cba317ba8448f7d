"""docs/settings.md names every setting, and says what the gate does."""

from __future__ import annotations

from tests.support import settings_page


def test_the_page_is_what_the_settings_are() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), (
        "run: python -m tests.support.settings_page"
    )


def test_every_setting_is_explained() -> None:
    assert settings_page.undocumented() == []
