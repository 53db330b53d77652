"""Bytes that a console of a Windows server printed, as text.

We ask for UTF-8 (code page 65001), but some programs write in the code page of the system, and cmd.exe does so in its
own messages. A server reports its console's code page with its first answer; before that, the likeliest one is used.
"""

import codecs
import re
from contextlib import suppress
from functools import cache

__all__ = ["decoded"]

_UTF8 = 65001
_OTHER_NAMES = {20127: "ascii", 28591: "latin-1", 51932: "euc_jp", 54936: "gb18030"}
_WESTERN = ("cp850", "cp1252", "cp437", "cp852", "cp1250")  #: the likeliest first
_CYRILLIC = ("cp866", "cp1251")
_CONTINUATION = bytes(range(0x80, 0xC0))  #: bytes within a character of UTF-8
_LONGEST = 4  #: bytes of a character
_FEW = 3  #: foreign letters; fewer say nothing about the script
_LETTERS = frozenset("äöüßéèêëàâçñáíóúôîûïìòùåæøãõąćęłńśźżčďěňřšťůžőűÄÖÜÉÈÀÇÑÅÆØÓÍÁÚŁŚŻŹČŘŠŽ«»¿¡°§")
_MOST = 0.8
_MANY = 0.25  #: part of the letters that are foreign in a text of another script; European languages have far fewer
_PAIRS = re.compile(rb"(?:[\x00-\x7f]|[\xa1-\xf7][\xa1-\xfe])*")  #: GB 2312; Big5 has other second bytes too


def decoded(data: bytes, code_page: int = 0) -> str:
    """The text: UTF-8 if it is valid, else of that code page, else of the likeliest one. Never fails.

    Args:
        data: what was printed; it may begin within a character.
        code_page: what the server reported; 0 if it has not answered yet.
    """
    cut = len(data) - len(data.lstrip(_CONTINUATION))
    with suppress(UnicodeDecodeError):
        return data[cut if cut < _LONGEST else 0 :].decode("utf-8")
    codec = _codec(code_page) if code_page not in {0, _UTF8} else ""
    return data.decode(codec, "replace") if codec else _likeliest(data)


@cache
def _codec(code_page: int) -> str:
    """Python's name of a code page; empty if it has none."""
    for name in (f"cp{code_page}", _OTHER_NAMES.get(code_page, "")):
        try:
            return codecs.lookup(name).name
        except LookupError:
            continue
    return ""


def _likeliest(data: bytes) -> str:
    """A text in another script if many of its letters belong to it, else one in a European code page."""
    found = _japanese(data) or _korean(data) or _chinese(data) or _russian(data)
    texts = [text for codec in _WESTERN if (text := _strict(data, codec))]
    return found or max(texts, key=lambda text: sum(_worth(letter) for letter in text), default="")


def _worth(letter: str) -> int:
    if letter.isascii():
        return 0
    return 1 if letter in _LETTERS else -1


def _strict(data: bytes, codec: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return ""


def _share(text: str, first: str, last: str) -> float:
    """The part of the letters beyond ASCII that lie in a range; 0 if the text has few of them."""
    letters = [letter for letter in text if letter.isalpha()]
    foreign = [letter for letter in letters if not letter.isascii()]
    if len(foreign) < max(_FEW, _MANY * len(letters)):
        return 0.0
    return sum(first <= letter <= last for letter in foreign) / len(foreign)


def _japanese(data: bytes) -> str:
    """Hiragana and Katakana tell it from Chinese, whose bytes would be half-width Katakana."""
    text = _strict(data, "cp932")
    kana, all_of_it = _share(text, "\u3041", "\u30ff"), _share(text, "\u3041", "\u9fff")
    return text if kana > 1 - _MOST and all_of_it > _MOST else ""


def _korean(data: bytes) -> str:
    text = _strict(data, "cp949")
    return text if _share(text, "\uac00", "\ud7a3") > (1 + _MOST) / 2 else ""


def _chinese(data: bytes) -> str:
    text = _strict(data, "cp936" if _PAIRS.fullmatch(data) else "cp950")
    return text if _share(text, "\u4e00", "\u9fff") > _MOST else ""


def _russian(data: bytes) -> str:
    texts = (_strict(data, codec) for codec in _CYRILLIC)
    return next((text for text in texts if _share(text, "\u0410", "\u044f") > _MOST), "")
