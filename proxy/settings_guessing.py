"""Settings against those who guess account codes and passwords."""

from __future__ import annotations

from pydantic import Field

from proxy.settings_sections import Seconds, Section

__all__ = ["GuessingSettings"]


class GuessingSettings(Section):
    """What is done about those who guess account codes and SIP passwords. Emergency calls always pass."""

    wrong_codes: int = Field(default=5, ge=0, le=1_000)
    """So many wrong codes of one caller within `window` lock it: no call of it that needs a code is taken,
    optional codes are not asked for; 0: never."""
    window: Seconds = 900.0
    """Seconds for which a wrong code counts."""
    lock: float = Field(default=3_600.0, ge=0, le=31_536_000)
    """Seconds for which a caller is locked; 0: until somebody unlocks it."""
    many_wrong_codes: int = Field(default=50, ge=0, le=10_000)
    """So many wrong codes of all callers within `window` raise an alarm and slow every prompt; 0: never."""
    many_callers: int = Field(default=10, ge=1, le=10_000)
    """From so many callers at least."""
    slow_prompt: float = Field(default=3.0, ge=0, le=10)
    """Seconds by which every entry is answered later then."""
    shared_numbers: tuple[str, ...] = ()
    """Numbers under which many people call, as a PBX's main number where it sends that for all of them, as
    they come or as `+E.164`: callers that match no user and have one of these, or no number at all, are
    locked together only. Each of their calls counts as a caller of its own towards `many_callers`."""
    nameless_wrong_codes: int = Field(default=50, ge=0, le=100_000)
    """So many wrong codes of such callers of one PBX within `wider_window` lock them all, the others of that
    PBX not; 0: never."""
    peer_wrong_codes: int = Field(default=300, ge=0, le=100_000)
    """So many wrong codes of all callers of one PBX within `wider_window` lock the whole PBX: whoever may
    choose the number that it sends has as many callers as he likes; 0: never. Several PBXs with hundreds of
    callers may need more, a small one is safer with less."""
    wider_window: Seconds = 5_400.0
    """Seconds for which these count; the lock is for as long at least."""
    wrong_passwords: int = Field(default=10, ge=0, le=1_000)
    """So many wrong passwords for one user from one address within `password_window`, and those that follow
    from there for it are not looked at: the user's own phone elsewhere is not meant; 0: never."""
    password_window: Seconds = 60.0
    """Seconds for which a wrong password counts."""
    ban: Seconds = 300.0
    """Seconds for which they are not looked at."""
