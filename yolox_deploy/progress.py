"""Progress bars of long work."""

from __future__ import annotations

from functools import partial

from tqdm import tqdm

# `tqdm` on standard error, and nothing where that is no terminal: log files hold the results alone.
progress_bar = partial(tqdm, disable=None)
