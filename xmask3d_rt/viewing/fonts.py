"""Text of any script in pictures, with the fonts that the machine has.

No font holds all scripts, so each character is drawn with the first font of a list that has it.
Right-to-left scripts are shaped where PIL has libraqm (`PIL.features.check("raqm")`); its wheels
for Linux and macOS do.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from xmask3d_rt.errors import one_line

# PIL looks these names up in the font folders of the system. Latin, Cyrillic and Greek first.
FONT_FILES = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf"),
    *("Arial.ttf", "arial.ttf", "segoeui.ttf", "Helvetica.ttc"),
    # Arabic and Hebrew
    *("NotoSansArabic-Regular.ttf", "NotoNaskhArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("GeezaPro.ttc", "Arial Unicode.ttf", "ArialHB.ttc", "FreeSans.ttf"),
    # Chinese, Japanese, Korean
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf"),
    *("SourceHanSans-Regular.ttc", "DroidSansFallbackFull.ttf", "wqy-microhei.ttc"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "STHeiti Light.ttc"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "simsun.ttc", "msgothic.ttc"),
    # India and Thailand
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "Nirmala.ttc", "Nirmala.ttf"),
)
PROBE = 24  # pixels at which fonts are asked for a character
NO_CHARACTER = "\U0010ffff"  # never assigned: drawn as the sign for a missing character

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def measure_text(text: str, size: float) -> float:
    """Width of a line of text in pixels."""
    return sum(_open(font, size).getlength(run) for run, font in split_runs(one_line(text)))


def draw_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    text: str,
    size: float,
    fill: tuple[int, int, int],
) -> None:
    """Draw a line of text whose baseline begins at `position` (x, y)."""
    x, y = position
    for run, name in split_runs(one_line(text)):
        font = _open(name, size)
        draw.text((x, y), run, fill=fill, font=font, anchor="ls")
        x += font.getlength(run)


def wrap_text(text: str, size: float, room: float) -> list[str]:
    """Lines of a text, none wider than `room` pixels: cut at spaces, else between characters."""
    lines: list[str] = []
    line = ""
    for word in one_line(text).split(" "):
        joined = f"{line} {word}" if line else word
        if measure_text(joined, size) <= room:
            line = joined
            continue
        if line:
            lines.append(line)
        while len(word) > 1 and measure_text(word, size) > room:
            fits = next(n for n in range(len(word) - 1, 0, -1) if _fits(word[:n], size, room))
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line]


def split_runs(text: str) -> Iterator[tuple[str, str]]:
    """Pieces of a text, each with the file of the font that has its characters; "" for PIL's."""
    run, current = "", ""
    for char in text:
        # Marks belong to the letter before them; spaces are in every font.
        joins = run and (char.isspace() or unicodedata.category(char)[0] in "MC")
        font = current if joins else _pick_font(char)
        if run and font != current:
            yield run, current
            run = ""
        run, current = run + char, font
    if run:
        yield run, current


def _fits(text: str, size: float, room: float) -> bool:
    """Whether a text is narrow enough; a single character always is."""
    return len(text) == 1 or measure_text(text, size) <= room


@lru_cache(maxsize=8192)
def _pick_font(char: str) -> str:
    """File of the first font that has a character; that of the first font there is, else ""."""
    # Lazily: a name that is not there costs a walk through all font folders.
    existing = (name for name in FONT_FILES if _exists(name))
    first = next(existing, "")
    if not first or _has(first, char):
        return first
    return next((name for name in existing if _has(name, char)), first)


@lru_cache(maxsize=len(FONT_FILES))
def _exists(name: str) -> bool:
    """Whether the system has a font file of this name."""
    try:
        ImageFont.truetype(name, PROBE)
    except OSError:
        return False
    return True


def _has(name: str, char: str) -> bool:
    """Whether a font has a character: it draws it unlike one that cannot exist."""
    font = _open(name, PROBE)
    drawn, missing = font.getmask(char), font.getmask(NO_CHARACTER)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@lru_cache(maxsize=64)
def _open(name: str, size: float) -> Font:
    """A font at a size; PIL's own for ""."""
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
