"""Where this package keeps files of its own."""

import os
from pathlib import Path


def find_cache_folder(part: str) -> Path:
    """A folder in the user's cache, which may not exist yet: `$XDG_CACHE_HOME`, else `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "xmask3d_rt" / part
