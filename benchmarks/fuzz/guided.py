"""python -m benchmarks.fuzz.guided TARGET FOLDER [libFuzzer's options]: one reader, guided by coverage (atheris).

The process of `benchmarks.fuzz.parsers`. FOLDER/corpus grows with what reaches new code; FOLDER/fault-* is what broke.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from pathlib import Path


def main() -> None:
    name, folder, *options = sys.argv[1:]
    import atheris

    with atheris.instrument_imports(include=["runtimes", "yolox_deploy", "json", "torch._weights_only_unpickler"]):
        from runtimes.errors import UserError

        from .targets import TARGETS

        target = TARGETS[name]()
    corpus = Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds):
        (corpus / f"seed-{index}").write_bytes(seed)
    scratch = Path(tempfile.mkdtemp(dir=folder))
    target.prepare(scratch)
    warnings.simplefilter("error", RuntimeWarning)
    quiet = io.StringIO()

    def one_input(content: bytes) -> None:
        try:
            sys.stderr = quiet  # where it is said what is left out
            target.read(content, scratch)
        except UserError as error:
            if "\n" in str(error):
                raise
        finally:
            sys.stderr = sys.__stderr__
            quiet.truncate(0)

    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={folder}/fault-", *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
