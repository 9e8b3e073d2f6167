"""What counts as a secret: names that hide what stands below them (SECRET_WORDS, SECRET_NAMES, CONTAINER_NAMES,
INNOCENT_NAMES), and secrets known by their shape in any text (SHAPES). URLs are judged in `secret_urls`.

Where a rule is in doubt it redacts. No rule applies to a payload without one of MARKERS.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

#: Words that make a name a secret's wherever they occur in it; a space stands for any separator, or none.
SECRET_WORDS = (
    "secret", "password", "passwd", "passphrase", "passcode", "pass word", "pwd", "token", "api key", "access key",
    "account key", "application key", "auth key", "client key", "content key", "encrypted key", "encryption key",
    "hmac key", "license key", "master key", "private key", "server key", "session key", "shared key", "signing key",
    "ssh key", "stream key", "subscription key", "webhook key", "write key", "shared access signature", "authorization",
    "amz signature", "goog signature", "basic auth", "http auth", "proxy auth", "x auth", "auth header",
    "credential", "jwt", "cookie", "bearer", "mnemonic", "seed phrase", "recovery phrase",
)  # fmt: skip

#: Names that hold a secret only when they are the whole name.
SECRET_NAMES = frozenset({"auth", "pass", "sig", "signedkey", "keysecret", "cryptkey"})

#: Names of containers whose every leaf goes, whatever the leaves are called.
CONTAINER_NAMES = frozenset({"pinata", "webhookcontext", "encryption"})
CONTAINER_WORDS = ("headers",)

#: Names of the API that sound like a secret and are none.
INNOCENT_NAMES = frozenset({"createdbytokenname"})

_SEPARATORS = str.maketrans("", "", "-_. ")
_BARE_WORDS = (*(word.replace(" ", "") for word in SECRET_WORDS), *CONTAINER_WORDS)


def names_secret(name: str) -> bool:
    """Whether everything that stands under a key of this name is to be replaced."""
    bare = name.casefold().translate(_SEPARATORS)
    if bare in INNOCENT_NAMES:
        return False
    return bare in SECRET_NAMES or bare in CONTAINER_NAMES or any(word in bare for word in _BARE_WORDS)


# ------------------------------------------------------------------------------------------------------------- shapes

#: A name in running text: the secret words, and what may follow within the name (`secret_id`, `tokenValue`, `keys`).
_NAME = "|".join(re.escape(word).replace(r"\ ", "[-_. ]?") for word in SECRET_WORDS)
_INITIAL = "".join(sorted({word[0] for word in SECRET_WORDS}))  # looked at first: most letters begin no name
_NAME_END = r"(?:s|id|[-_.][\w\-.]{0,30}|(?-i:[A-Z])\w{0,30})?"
_ASSIGN = r"""["'\\]{0,6}\s{0,8}(?:[:=>]|%(?:25)*+3[ad]|\\u003[ad]){1,3}\s{0,8}"""
#: A value within brackets: where it ends is not told, so all that follows goes.
_BRACKETED = r"([\[{](?s:.*))"
_QUOTED = r"""\\+"([^"\\]+)|"([^"\\]*+(?:\\.[^"\\]*+)*+)|\\?'([^'\\]+)"""


def _is_basic(value: str) -> bool:
    """Whether this is the base64 of `user:password`, not a word that happens to follow "Basic"."""
    digits = value.rstrip("=")
    try:
        return b":" in base64.urlsafe_b64decode(digits.replace("+", "-").replace("/", "_") + "=" * (-len(digits) % 4))
    except ValueError:
        return False


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Shape:
    """A secret that text gives away: by one of `markers` (lower case) it is looked for, by `pattern` found.

    The last group that took part in a match is the secret; a match without one is no secret (it was only consumed, so
    that no text is scanned twice: all patterns are linear).
    """

    markers: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Callable[[str], bool] = _always


def _shape(
    markers: str, pattern: str, flags: re.RegexFlag = re.NOFLAG, judge: Callable[[str], bool] = _always
) -> Shape:
    return Shape(tuple(markers.split("|")), re.compile(pattern, flags), judge)


SHAPES = (
    _shape("-----begin", r"(?s)(-----BEGIN[\w%+ ]{0,60}PRIVATE[\w%+ ]{0,40}-----.*?(?:-----END[^-]{0,100}-----|\Z))"),
    _shape("data:", r"(?i)(?<!\w)data:[\w.+\-/;=%]{0,200},([^\s\"'<>]+)"),
    # A header's value goes to the end of its line: cookies and digest credentials have several parts.
    _shape(
        "authorization|cookie",
        rf"(?i)(?:authorization|cookie){_ASSIGN}(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>][^\r\n\"'<>]*))",
    ),
    _shape("bearer", r"(?i)bearer(?:\s|%20|\+){1,8}(?!(?:auth\w*|tokens?|is|not|of|the|scheme)\b)([\w\-.~+/=%*]+)"),
    _shape("basic", r"(?ai)basic(?:\s|%20|\+){1,8}([\w\-+/]{4,}={0,2})", judge=_is_basic),
    _shape("eyj", r"(eyJ[\w\-]{9,}+\.[\w\-=+/.]++)|eyJ[\w\-]*+"),
    _shape("akia|asia|aroa", r"((?:AKIA|ASIA|AROA)[A-Z0-9]{12,})"),
    _shape("ghp_|gho_|ghu_|ghs_|ghr_", r"(gh[pousr]_[A-Za-z0-9]{16,})"),
    _shape("github_pat_", r"(github_pat_\w{16,})"),
    _shape("xox", r"(xox[a-z]-[\w\-]{8,})"),
    _shape("hooks.slack", r"(?i)hooks\.slack\.com(?:\\?/(?:services|workflows|triggers))?\\?/([\w/\\\-]+)"),
    _shape("sk_|rk_|whsec_", r"((?:[sr]k_(?:live|test)|whsec)_\w{8,})"),
    _shape("aiza", r"(AIza[\w\-]{30,})"),
    _shape("glpat-", r"(glpat-[\w\-]{16,})"),
    _shape("npm_", r"(npm_[A-Za-z0-9]{30,})"),
    _shape("sk-", r"(?<![A-Za-z0-9])(sk-(?=[A-Za-z_\-]{0,100}\d)[\w\-]{20,})"),
    _shape("sk", r"(?<![A-Za-z0-9])(SK[0-9a-f]{32})(?![A-Za-z0-9])"),
    # A stream key is the end of the path that media is pushed to.
    _shape("rtmp", r"(?i)rtmps?:(?:\\{0,8}/){2}[^\s/\"'<>]+/[^\s/\"'<>?#]+/([^\s\"'<>?#]+)"),
    # What the server answers to a wrong key.
    _shape("no token ", r"no token (\S+) found"),
    _shape(
        "sig", rf"(?i)(?<![a-z])(?:sig|signature|signatureprovided){_ASSIGN}(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>&,]+))"
    ),
    _shape(
        "key|pass|secret|token|auth|cookie|bearer|credential|jwt|pwd|signature|mnemonic|phrase",
        rf"(?i)(?=[{_INITIAL}])(?:{_NAME}|(?<![a-z])(?:pass|auth)(?![a-z])){_NAME_END}{_ASSIGN}"
        rf"(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>&]+))",
    ),
)

#: Names of keys that no shape or URL gives away, and the characters without which no URL holds a secret.
_NAME_MARKERS = ("header", "pinata", "webhookcontext", "encrypt")
_URL_MARKERS = ("?", "@", "#", "%", "\\u00")
#: Twilio's keys: "sk" alone is in every third task.
WIDE_MARKERS = {"sk": "sk[0-9a-f]{32}"}

#: What a payload is searched for, in lower case, before anything else.
MARKERS = tuple(
    dict.fromkeys(
        marker.encode()
        for marker in (*_URL_MARKERS, *_NAME_MARKERS, *(marker for shape in SHAPES for marker in shape.markers))
        if marker not in WIDE_MARKERS
    )
)
WIDE = re.compile("|".join(WIDE_MARKERS.values()))

# What stands for a secret, and what the server or another tool has masked.
FINGERPRINT = "redacted-[0-9a-f]{12}"
_MASK = rf"(?:\*+|{FINGERPRINT})?"
MASKED = re.compile(rf"{_MASK}(?:[:#]{_MASK})*+")
