"""Finding files by the names that labels give them: written on another system, they may be spelled otherwise here."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from .faults import Fault

ABSOLUTE = re.compile(r"^([A-Za-z]:)?[\\/]")
MOST_SIMILAR = 3  # misses for which all names of a folder are looked through


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

    def find(self, name: str, folders: Sequence[Path], fits: Callable[[Path], bool] | None = None) -> Path | None:
        """The file of a name in the first of the folders that has it; None where none has. fits: whether a path of the
        name is meant; unset, a file is.

        Raises `Fault` where two files fit equally well.
        """
        fits = fits or is_file
        if exact := next((folder / name for folder in folders if fits(folder / name)), None):
            return exact
        for spelling in _spellings(name):
            for folder in folders:
                if found := self._alike(folder, spelling, fits, stems=False):
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
        """For an error: "; there is x.png" where the folder that was meant has a file whose name differs in capitals,
        composition, suffix, spaces and underscores alone; else "". Another number is another image."""
        self._misses += 1
        last = re.split(r"[\\/]", name)[-1]
        if self._misses > MOST_SIMILAR:
            return ""
        for folder in folders:
            for place in dict.fromkeys(((folder / name).parent, folder)):
                near = (path for path in self._list(place) if _plain_stem(path.name) == _plain_stem(last))
                if found := next(filter(is_file, near), None):
                    return f"; there is {found}"
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


def _plain_stem(name: str) -> str:
    """The key of a name without suffix, spaces and underscores. A suffix has a letter: VOC's names have none."""
    return re.sub(r"[\s_]+", "", re.sub(r"\.[a-z][a-z0-9]{1,4}$", "", _key(name)))


def leaves_folder(name: str) -> bool:
    """Whether a path is absolute, on any system, or begins above the folder that it starts from."""
    return bool(ABSOLUTE.match(name)) or name.strip().replace("\\", "/").startswith("../")


def _shown(path: Path, name: str) -> bool:
    """Whether a path ends as a name says."""
    return f"/{path.as_posix()}".endswith(f"/{name}")


def _spellings(name: str) -> list[str]:
    """The name with slashes, and with %20 read as a space; of a path that is absolute or leaves
    the folder, its ends, the longest first."""
    slashed = name.strip().replace("\\", "/")
    spellings = [slashed, unquote(slashed)]
    if leaves_folder(name):
        for whole in dict.fromkeys(spellings):
            parts = [part for part in whole.split("/") if part not in ("", "..")]
            spellings += ["/".join(parts[start:]) for start in range(len(parts))]
    return [spelling for spelling in dict.fromkeys(spellings) if spelling]
