"""What somebody at a terminal can do about a refusal.

The rooms that refuse say what is the case, in words that the portal shows too; commands and options are known
here alone.
"""

from __future__ import annotations

import re

__all__ = ["with_advice"]

_OWNER = re.compile(r"code owner: (?=(group|user) )")
_SETTINGS = (("number plan country ", "number_plan.country: "), ("prompts folder ", "prompts.folder: "))
"""What stands in the settings file under another name."""
_ADVICE = tuple(
    (re.compile(sentence), advice)
    for sentence, advice in (
        (r"user .+ exists already", "`tollgate users set` changes it"),
        (r"group .+ exists already", "`tollgate groups set` changes it"),
        (r"account .+ exists already", "`tollgate accounts set` changes it"),
        (r"token .+ exists already", "`tollgate tokens revoke` ends it"),
        (r"code .+ exists already|codes .+ and .+ both dial .+", "`tollgate codes set` changes it"),
        (r"(--user: )?user .+ does not exist", "`tollgate users list` shows them"),
        (r"(--group: )?group .+ does not exist", "`tollgate groups list` shows them"),
        (r"account .+ does not exist", "`tollgate accounts list` shows them"),
        (r"token .+ does not exist", "`tollgate tokens list` shows them"),
        (r"code .+ does not exist", "`tollgate codes list` shows them"),
        (r"no gate is running at .+", "give the gate's --config or TOLLGATE_STORE__URL"),
        (r"journal directory .+ \(a gate on this store\?\)", "stop it, or give another store.url"),
        (
            r"(sip|portal)\.listen: .*Address already in use.*",
            "`ss -lntup` shows by whom; stop that, or set another",
        ),
    )
)


def with_advice(refusal: str) -> str:
    """Return a refusal with what can be done about it, if that is known."""
    refusal = _OWNER.sub(r"--\1: ", refusal)
    for words, setting in _SETTINGS:
        refusal = refusal.replace(words, setting)
    for sentence, advice in _ADVICE:
        if sentence.fullmatch(refusal):
            return f"{refusal}; {advice}"
    return refusal
