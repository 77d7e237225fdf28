"""Messages of errors, in one line that a terminal can show."""

import unicodedata


def printable(text: str, length: int) -> str:
    """Text in one line of at most `length` characters, without what a terminal would obey."""
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return text if len(text) <= length else text[:length] + " …"


def one_line(error: Exception) -> str:
    """The message of an error in one line of readable length."""
    text = printable(str(error), 300)
    if not isinstance(error, OSError | ValueError | RuntimeError | ImportError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text


def has_control_characters(text: str) -> bool:
    """Whether a terminal would obey part of it: control characters but for newline and tab, or lone surrogates."""
    return any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in text)
