"""Finds in text what must not be published: tokens, passwords, and absolute paths of somebody's disk.

Tokens are found by the plugins of detect-secrets and by a table of what these lack. The search also reads text that
is escaped or encoded: `\\u002f`, `&#47;`, `%2F`, base64, full-width letters. It finds what got in by mistake; what
somebody hides on purpose, as by encryption, it cannot.
"""

import base64
import binascii
import html
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import unquote

PLUGINS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
# What these plugins lack: what it is, and what it looks like.
FURTHER = (
    ("a Hugging Face token", r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    ("a GitHub token", r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{30,}|github_pat_\w{22,})"),
    ("an AWS key", r"(?<![A-Za-z0-9])A(?:KIA|SIA)[0-9A-Z]{16}|X-Amz-Signature=[0-9a-f]{64}"),
    ("a Google key", r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[\w-]{20,}|(?<!\w)1//0[\w-]{30,}"),
    ("an npm token", r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}"),
    ("a PyPI token", r"pypi-AgE[\w-]{30,}"),
    ("a Stripe key", r"(?<![A-Za-z0-9])(?:[rs]k_(?:live|test)_[0-9A-Za-z]{10,}|whsec_[A-Za-z0-9+/]{24,})"),
    ("an API key", r"(?<![\w-])sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|(?<![A-Za-z0-9])(?:r8|gsk)_[A-Za-z0-9]{36,}"),
    ("a Slack token", r"(?<![a-z0-9])(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{10,}"),
    ("a Discord webhook", r"discord(?:app)?\.com/api/webhooks/\d+/[\w-]{30,}"),
    ("a Kaggle key", r"KGAT_[0-9A-Za-z]{20,}|[\"']key[\"']\s*:\s*[\"'][0-9a-f]{32}[\"']"),
    ("a Weights & Biases key", r"wandb_v1_\w{30,}|(?<!\w)local-[0-9a-f]{40}"),
    ("an Azure key", r"(?:SharedAccess|Account)Key=[A-Za-z0-9+/]{40,}|[?&]sig=[A-Za-z0-9%+/]{40,}"),
    ("an Azure secret", r"(?<!\w)\w{3}8Q~[\w.~-]{31,}"),
    ("a Docker token", r"dckr_pat_[\w-]{20,}"),
    ("a Databricks token", r"(?<!\w)dapi[0-9a-f]{32}"),
    ("a DigitalOcean token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("a Vault token", r"hvs\.[\w-]{20,}"),
    ("a private key", r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    ("a bearer token", r"(?i)\bBearer[\s+]{1,9}(?=[\w.~+/-]{0,200}\d)[\w.~+/-]{16,}"),
    ("an authorization header", r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?\w+\s+[\w.~+/=-]{8,}"),
    ("a password in .netrc", r"\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
    ("a password in a URL", r"://[^\s/@:]*:[^\s/@]+@"),
    ("a password", r"(?i)\b(?:password|passphrase)\s(?:is|was)\s+(?=\S{0,60}\d)\S{5,}"),
    ("a token of the environment", r"(?i)\b(?:set|setx|setenv)\s+\w*(?:TOKEN|KEY|SECRET|PASSWORD)\s+[\w+/=.-]{8,}"),
    ("a user's password", r"(?<![\w-])(?:-u|--user|--auth)[ =](?!USER)\S+:\S{3,}"),
)
# `user:password@host` without a scheme, but not `mailto:ada@example.org`.
LOGIN = re.compile(
    r"(?<![\w./-])(?!(?i:e?-?mail(?:to)?|contact|author|maintainer|from|to|cc|bcc|by|sip|xmpp|acct):)"
    r"[\w.+-]{1,64}:[^\s:/@\"'<>(),;]{3,64}@[\w-]+(?:\.[\w-]+)+"
)
# The secret half of an AWS key has no prefix: forty letters and digits in disorder.
AWS_SECRET = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/]{40}(?![\w+/=-])")
# Names of fields, options and variables whose value is a secret.
NAME = (
    r"(?:pass(?:word|wd|phrase|wort)s?|passcode|pwd|secrets?|credentials?|authorization"
    r"|(?:api|access|secret|private|account|auth|signing|storage|service|client|kaggle|wandb|aws|azure|openai|hf)[_-]?keys?"
    r"|(?:access|auth|api|refresh|bearer|hf|hub|github|gh|gitlab|session|bot|oauth|security|write|read|user)[_-]?token|token)"
)
FIELD = re.compile(rf"(?:^|.*[_.\s])(?:{NAME}|pass|auth)")
ASSIGNED = re.compile(
    rf"(?i:(?<![a-z0-9]){NAME}[\"']?\s{{0,9}}[:=]\s{{0,9}}[\"'`])(?P<quoted>[^\"'`\s]{{4,}})[\"'`]"
    rf"|(?i:(?<![a-z0-9]){NAME}[\"']?\s{{0,9}}[:=]\s{{0,9}})(?=[^\s\"']{{0,200}}\d)"
    r"(?P<bare>[^\s\"'`()\[\]{}<>$*,;]{6,}+)(?![(\[])"
    r"|(?<![A-Z0-9])(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS)="
    r"(?P<variable>[^\s\"'`()\[\]{}<>$*,;]{6,}+)(?![(\[])"
    rf"|--[a-z-]{{0,30}}{NAME}(?:=|\s+)[\"']?(?P<option>[^\s\"'-][^\s\"']{{3,}})"
)
PLACEHOLDER = re.compile(
    r"[<\[{$(*%].*|.*\.\.\.|…|[.xX*_-]+|[A-Z][A-Z_]*|(?i:none|null|true|false|required|optional|hidden|redacted|removed"
    r"|your[ _-].*)"
)

PART = r"[\w.+@~-]+"
HOMES = r"home|Users|root|Volumes|mnt|tmp|private|scratch"
ROOTS = (
    rf"{HOMES}|media|var|opt|srv|workspaces?|data|datasets|kaggle|content|gpfs|lustre|nfs|storage|cluster|projects?|work"
    "|export|global|beegfs|afs"
)
# Beneath a folder that systems have at their root, and in forms that only paths have.
ROOTED = (
    rf"(?:(?<![\w./}}])|(?<=[\s\"'=]-[A-Za-z])|(?<=^-[A-Za-z]))/(?:{HOMES})(?:/{PART})+/?"
    rf"|(?<![\w./}})\]*])/(?:{ROOTS})(?:/{PART})+/?"
)
STRONG = re.compile(
    r"(?i:file|smb|nfs|afp):/{1,4}[^\s\"'<>)\]/][^\s\"'<>)\]]*"
    r"|(?:(?<=[\"'])|(?m:^))//[\w.-]+/[\w.$-]+[^\s\"']*"
    rf"|(?<![\w.+/~)\]}}*-])~[\w.-]*(?:/{PART})+/?"
    rf"|{ROOTED}"
    r"|(?<![A-Za-z0-9_])[A-Za-z]:(?:\\+|/(?!/))[\w.+@~$-][^\s\"'<>|*?]*"  # Windows
    r"|(?<![\w\\:])\\{2,4}[\w?.][\w.$-]+\\{1,2}[\w.$-]{2,}[^\s\"'<>|*?]*"  # a Windows share
)
IN_BINARY = re.compile(rf"{ROOTED}|[A-Za-z]:[\\/]+(?:Users|home|Documents)[\\/]+[\w.+@~-]+")
URL = r"\b[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s\"'<>)\]]*"
WEAK = re.compile(
    rf"(?P<url>{URL})"
    r"|(?<![\w./~)\]}*+%-])(?<!\]\()/(?!m/0|g/1|dev/null\b|usr/bin/env\b|bin/(?:ba)?sh\b)"
    rf"(?:{PART}/)+{PART}/?"
    r"|(?:^|(?<=[\"'=\s:]))/(?!(?:or|and|a|o|s|w)\b)[^\W\d_][\w.+@-]*/?(?=[\"'\s,;]|$)",  # one part, as a whole value
    re.MULTILINE,
)
QUOTED_PATH = re.compile(r"([\"'])((?:~?/|[A-Za-z]:[\\/]|\\\\)[^\"'\n]*)\1")

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrt\"'/\\]))")
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
DEPTH = 4  # of encodings one within another
WINDOW, OVERLAP = 4000, 400  # letters that are searched at once: some patterns take the square of these


def readings(text: str) -> Iterator[str]:
    """The text as it is, and as it reads with escapes and encodings undone, up to `DEPTH` of them."""
    seen, newest = {text}, [text]
    yield text
    for _ in range(DEPTH):
        decoders = (plain_letters, html.unescape, unquote, unescape, decode_base64)
        newest = [decoder(each) for each in newest for decoder in decoders]
        newest = [each for each in dict.fromkeys(newest) if each and each not in seen]
        seen.update(newest)
        yield from newest


def plain_letters(text: str) -> str:
    """Full-width and other variants of letters as the letters, and no invisible characters."""
    return text if text.isascii() else INVISIBLE.sub("", unicodedata.normalize("NFKC", text))


def unescape(text: str) -> str:
    r"""`\u002f`, `\x2f`, `\n` and the like as what they stand for."""
    named = {"n": "\n", "r": "\r", "t": "\t"}

    def character(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else named.get(found[3], found[3])

    return ESCAPE.sub(character, text) if "\\" in text else text


def decode_base64(text: str) -> str:
    """What the parts of a text say that are text in base64 or hexadecimal digits."""
    decoded = (each for found in ENCODED.findall(text) for each in decoded_bytes(found))
    return "\n".join(filter(None, map(as_text, decoded)))


def decoded_bytes(encoded: str) -> Iterator[bytes]:
    """The bytes that letters and digits stand for in base64, and in hexadecimal digits where all are these."""
    digits = encoded.rstrip("=")
    with suppress(binascii.Error):
        yield base64.b64decode(digits.translate(str.maketrans("-_", "+/")) + "=" * (-len(digits) % 4))
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", digits):
        yield bytes.fromhex(digits)


def as_text(data: bytes) -> str:
    """The text that the bytes are, in UTF-8 or UTF-16; empty where they are none."""
    for encoding in ("utf-8", "utf-16-le"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and all(letter.isprintable() or letter in "\t\r\n" for letter in text) and text.isascii():
            return text
    return ""


@cache
def plugins() -> tuple[Any, ...]:
    """The plugins of detect-secrets; only their patterns are used, none asks a server."""
    from detect_secrets.settings import get_plugins, transient_settings

    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}):
        return tuple(get_plugins())


def find_secret(text: str, token: str | None = None, *, binary: bool = False) -> str | None:
    """What kind of secret is in a text, if there is one.

    Args:
        text: to search.
        token: one that must not occur, however it looks.
        binary: whether these are bytes that happen to be letters: only unmistakable forms count, as they stand.
    """
    parts = (part for each in ([text] if binary else readings(text)) for part in windows(each))
    return next((kind for part in parts if (kind := secret_kind(part, token, binary))), None)


def windows(text: str) -> Iterator[str]:
    """A long text in parts that overlap, each from white space to white space where there is some."""
    start = 0
    while len(text) - start > WINDOW:
        end = start + WINDOW
        cut = max(text.rfind(space, end - OVERLAP, end) for space in "\n ")
        yield text[start : cut if cut > 0 else end]
        back = max(text.find(space, end - 2 * OVERLAP, end - OVERLAP) for space in "\n ")
        start = back if back > 0 else end - 2 * OVERLAP
    yield text[start:]


def secret_kind(text: str, token: str | None, binary: bool) -> str | None:
    if token and token in text:
        return "your token"
    for kind, pattern in FURTHER:
        if re.search(pattern, text):
            return kind
    for plugin in plugins():
        if any(plugin.analyze_string(text)):
            return f"a secret ({plugin.secret_type})"
    if any(map(is_disordered, AWS_SECRET.findall(text))):
        return "the secret part of an AWS key"
    for found in ASSIGNED.finditer(text):
        if not PLACEHOLDER.fullmatch(next(filter(None, found.groups()))):
            return "a password or key"
    return "a user's password" if not binary and LOGIN.search(text) else None


def is_disordered(text: str) -> bool:
    """Whether forty letters look drawn by chance: of all three sorts, and of more than 4.2 bits of entropy a letter.

    99.8 % of such keys are above that; names in camel case and hashes in hexadecimal digits are below.
    """
    sorts = (str.islower, str.isupper, str.isdigit)
    entropy = -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
    return entropy > 4.2 and all(any(map(sort, text)) for sort in sorts)


def is_secret_field(name: str, value: Any) -> bool:
    """Whether a field of this name, as `password` or `apiKey`, holds a value that is more than a placeholder."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).strip().lower().replace("-", "_")
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not FIELD.fullmatch(words):
        return False
    text = str(value).strip()
    return (isinstance(value, str) or len(text) > 3) and bool(text) and not PLACEHOLDER.fullmatch(text)


def find_path(text: str, *, binary: bool = False) -> str | None:
    """The first absolute path in a text, if there is one; `binary` as for [`find_secret`]."""
    if binary:
        found = IN_BINARY.search(text)
        return found and found[0]
    for each in readings(text):
        found = STRONG.search(each) or next((path for path in WEAK.finditer(each) if not path["url"]), None)
        if found:
            return found[0]
    return None


def hide_paths(value: Any) -> Any:
    """A record whose absolute paths are cut down to their last part, in keys too."""
    if isinstance(value, dict):
        hidden: dict[Any, Any] = {}
        for key, item in value.items():
            short = name = hide_paths(key)
            number = 1
            while name in hidden:
                number += 1
                name = f"{short} ({number})"
            hidden[name] = hide_paths(item)
        return hidden
    if isinstance(value, list):
        return [hide_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    text = QUOTED_PATH.sub(lambda found: f"{found[1]}{last_part(found[2])}{found[1]}", f'"{value}"')[1:-1]
    text = STRONG.sub(lambda found: last_part(found[0]), text)
    return WEAK.sub(lambda found: found[0] if found["url"] else last_part(found[0]), text)


def last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
