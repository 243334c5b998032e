"""Words to find a text by: Latin ones as they are, Chinese, Japanese and Korean as bigrams."""

import re
import unicodedata

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_RUN = re.compile(rf"(?P<cjk>[{_CJK}]+)|(?P<word>[^\W{_CJK}]+)")


def terms(text: str) -> tuple[str, ...]:
    """The distinct terms of a text, in order: "星期五 Friday" gives 星期, 期五, friday."""
    found: dict[str, None] = {}
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        cjk = run["cjk"]
        if cjk is None or len(cjk) == 1:
            found[run[0]] = None
        else:
            found.update((cjk[i : i + 2], None) for i in range(len(cjk) - 1))
    return tuple(found)
