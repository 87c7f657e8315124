"""Finding files by the names that labels give them: written on another system, they may be spelled otherwise here."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from .faults import Fault

ABSOLUTE = re.compile(r"^([A-Za-z]:)?[\\/]")
MOST_NAMES, MOST_SIMILAR = 20_000, 3  # comparing is slow: names that are looked through, and misses that it is done for


class FileNames:
    """Finds files by name, all formats alike, and remembers the folders that it had to list.

    A name is taken as it stands where there is such a file. Else these are taken for the same, where only one file
    fits: backslashes and slashes, `./` and nothing, %20 and a space, composed and decomposed letters (NFC, NFD), upper
    and lower case; of a path that is absolute or leaves the folder, and is not here, its end that is.
    """

    def __init__(self) -> None:
        self._spelled: dict[str, Fault] = {}
        self._listed: dict[Path, list[Path]] = {}
        self._by_key: dict[tuple[Path, bool], dict[str, list[Path]]] = {}
        self._misses = 0

    def find(self, name: str, folders: Sequence[Path]) -> Path | None:
        """The file of a name in the first of the folders that has it; None where none has.

        Raises `Fault` where two files fit equally well.
        """
        if exact := next((folder / name for folder in folders if is_file(folder / name)), None):
            return exact
        for spelling in _spellings(name):
            for folder in folders:
                if found := self._alike(folder, spelling, is_file, stems=False):
                    return self._only(name, found)
        return None

    def find_stem(self, name: str, folder: Path, fits: Callable[[Path], bool]) -> list[Path]:
        """The files of a name without suffix that fit: as it is spelled, else the only one that is spelled alike.

        More than one where their suffixes differ. Raises `Fault` where two are spelled alike.
        """
        for spelling in _spellings(name):
            for stems in (True, False):  # some lists name the suffix
                found = self._alike(folder, spelling, fits, stems)
                exact = [path for path in found if _shown(path.with_suffix("") if stems else path, spelling)]
                if exact:
                    return exact
                if found:
                    return [self._only(name, found)]
        return []

    def similar(self, name: str, folders: Iterable[Path]) -> str:
        """For an error: "; there is x.png" where a file of a similar name is in the folder that was meant, else ""."""
        self._misses += 1
        last = re.split(r"[\\/]", name)[-1]
        if self._misses > MOST_SIMILAR:
            return ""
        for folder in folders:
            for place in dict.fromkeys(((folder / name).parent, folder)):
                there = [path.name for path in self._list(place)[:MOST_NAMES] if is_file(path)]
                same = [other for other in there if _key(Path(other).stem) == _key(Path(last).stem)]
                if near := same or get_close_matches(last, there, 1, 0.8):
                    return f"; there is {place / near[0]}"
        return ""

    def take_faults(self) -> list[Fault]:
        """One for each name that was found under another spelling, since this was asked last."""
        faults, self._spelled = list(self._spelled.values()), {}
        return faults

    def _only(self, name: str, found: list[Path]) -> Path:
        if len(found) > 1:
            both = f"{found[0]} and {found[1]}"
            raise Fault("ambiguous file name", name, f"{name} may be {both}, whose names differ in spelling alone.")
        if not _shown(found[0], name.replace("\\", "/").removeprefix("./")):
            self._spelled[name] = Fault("file name spelled otherwise", f"{name} = {found[0].name}")
        return found[0]

    def _alike(self, folder: Path, spelling: str, fits: Callable[[Path], bool], stems: bool) -> list[Path]:
        """Every file below the folder whose path is that, but for case and composition. stems: the last name is one
        without suffix."""
        *parents, last = [part for part in spelling.split("/") if part not in ("", ".")] or [""]
        places = [folder]
        for part in parents:
            up = part == ".."
            places = [found for place in places for found in ([place / part] if up else self._children(place, part))]
        return [found for place in places for found in self._children(place, last, stems) if fits(found)]

    def _children(self, folder: Path, name: str, stems: bool = False) -> list[Path]:
        known = self._by_key.get((folder, stems))
        if known is None:
            known = defaultdict(list)
            for path in self._list(folder):
                known[_key(path.stem if stems else path.name)].append(path)
            self._by_key[folder, stems] = known
        return known.get(_key(name), [])

    def _list(self, folder: Path) -> list[Path]:
        if folder not in self._listed:
            try:
                self._listed[folder] = sorted(folder.iterdir())
            except (OSError, ValueError):  # no folder, or a name that none can have
                self._listed[folder] = []
        return self._listed[folder]


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that none can have
        return False


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shown(path: Path, name: str) -> bool:
    """Whether a path ends as a name says."""
    return f"/{path.as_posix()}".endswith(f"/{name}")


def _spellings(name: str) -> list[str]:
    """The name with slashes, and with %20 read as a space; of a path that is absolute or leaves
    the folder, its ends, the longest first."""
    slashed = name.strip().replace("\\", "/")
    spellings = [slashed, unquote(slashed)]
    if ABSOLUTE.match(name) or slashed.startswith("../"):
        for whole in dict.fromkeys(spellings):
            parts = [part for part in whole.split("/") if part not in ("", "..")]
            spellings += ["/".join(parts[start:]) for start in range(len(parts))]
    return [spelling for spelling in dict.fromkeys(spellings) if spelling]
