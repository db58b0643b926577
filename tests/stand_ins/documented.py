"""What a page of the documentation tells its readers to type."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_blocks(page, language=r"\w*"):
    """Returns the texts of a page's fenced blocks.

    Args:
        page: Path below the repository's root.
        language: Pattern of what stands behind the fence.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def read_commands(page):
    """Returns the words of each command in a page's blocks `sh`, without comments."""
    lines = "".join(read_blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def read_mentions(page):
    """Returns the words of each detflow command in a page's running text that names a path."""
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = [shlex.split(code) for code in re.findall(r"`(detflow [^`…]+)`", prose)]
    return [words for words in found if any(re.search(r"(pets|raccoon)$", word) for word in words)]
