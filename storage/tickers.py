"""What may be a ticker: a short name that is read as it is printed.

A ticker is a value wherever it goes, never a path, SQL, HTML or a formula, so that nearly any character may be in one:
`BRK/B`, `^GSPC`, `EURUSD=X`. What is refused are names that a person cannot tell from others.
"""

import unicodedata

LONGEST = 64


def fault(name: str) -> str | None:
    """Why a text is no ticker, as the end of a sentence; None where it is one."""
    if len(name) > LONGEST:
        return f"has {len(name)} characters; a ticker has at most {LONGEST}"
    if not name.isprintable():
        return "holds a character that is not printed; take it out"
    if unicodedata.normalize("NFKC", name) != name:
        return f"is written with other characters than it seems; write {unicodedata.normalize('NFKC', name)!r}"
    if len({character.isascii() for character in name if character.isalpha()}) > 1:
        return "mixes letters of two alphabets, which look alike; write it with those of one"
    return None
