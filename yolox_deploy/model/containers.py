"""Where a checkpoint file keeps its weights and what it says of them, whoever wrote it.

Knows the containers of the official code, mmdetection, Lightning, torch.compile, DistributedDataParallel and EMA
wrappers: nested dicts, and prefixes that wrappers put before every key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from runtimes.errors import InvalidInput
from runtimes.spec import is_name

# A key that every YOLOX has, in the official and in mmdetection's layout. What stands before it is a wrapper's prefix.
OFFICIAL, MMDETECTION = "head.cls_preds.0.weight", "bbox_head.multi_level_conv_cls.0.weight"
DEEPEST, MOST = 4, 16  # dicts in dicts, and sets of weights: a file may be a trap, its dicts may hold themselves

# Words in keys and prefixes that say which set of weights of a training it is.
EMA_WORDS = {"ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "model_state_dict_ema", "teacher"}
EMA_WORDS |= {"ema_module", "module_ema", "averaged", "averaged_model", "swa", "swa_model", "net_ema", "ema_net"}
RAW_WORDS = {"raw_model", "student"}


@dataclass(frozen=True)
class Weights:
    """A state dict in a checkpoint. keys: the way to its dict; prefix: what stands before its keys there.

    tensors: without the prefix. in_mmdetection: whether the keys are mmdetection's.
    """

    keys: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, Tensor]
    in_mmdetection: bool

    @property
    def words(self) -> set[str]:
        return {*self.keys, *self.prefix.split(".")}

    @property
    def place(self) -> str:
        """Where it is, in words."""
        way = f"in {'.'.join(self.keys)!r}" if self.keys else "at the top"
        return f"{way}, keys after {self.prefix!r}" if self.prefix else way


def find_weights(content: Mapping[Any, Any]) -> list[Weights]:
    """All sets of YOLOX weights in a checkpoint, the best first: averaged ones, then those found first.

    mmdetection's plain ones come before its `ema_state_dict`: see `describe_weights`.
    """
    return sorted(islice(_search(content, (), set()), MOST), key=_rank)


def _rank(weights: Weights) -> int:
    averaged = bool(weights.words & EMA_WORDS) != weights.in_mmdetection
    return 2 if weights.words & RAW_WORDS else 0 if averaged else 1


def _search(content: Mapping[Any, Any], keys: tuple[str, ...], seen: set[int]) -> Iterator[Weights]:
    seen.add(id(content))
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for key in tensors:
        for anchor in (OFFICIAL, MMDETECTION):
            prefix = key.removesuffix(anchor)
            if key.endswith(anchor) and (prefix == "" or prefix.endswith(".")):
                own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
                yield Weights(keys, prefix, own, anchor == MMDETECTION)
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping) and id(value) not in seen and len(keys) < DEEPEST:
            yield from _search(value, (*keys, key), seen)


def describe_weights(content: Mapping[Any, Any], found: Sequence[Weights]) -> tuple[str, str]:
    """The format of a checkpoint, and which weights the first of those found are, in words.

    Both mmdetection 2.x and mmengine swap before they save: the plain entries are the averaged weights, and what is
    named `ema_*` or `ema_state_dict` holds the raw ones (mmcv EMAHook.after_train_epoch, mmengine
    EMAHook.before_save_checkpoint). mmdetection itself tests with the plain entries, and so do we. Everywhere else,
    what is named EMA is the average.
    """
    chosen = found[0]
    if chosen.in_mmdetection and chosen.keys == ("state_dict",):
        if "ema_state_dict" in content:
            return "mmdetection 3.x (mmengine)", "EMA (the raw ones are in ema_state_dict)"
        if any(str(key).startswith("ema_") for key in content["state_dict"]):
            return "mmdetection 2.x", "EMA (the raw ones are in ema_* buffers)"
        return "mmdetection", "not said in the file"
    if chosen.keys == ("model",) and not chosen.words & EMA_WORDS:
        if "libreyolo_version" in content:
            return "LibreYOLO", "not said in the file"
        return "official", "EMA (the official trainer saves no others)"
    if not chosen.keys and not chosen.words & EMA_WORDS:
        return "bare state dict", "not said in the file"
    source = "Lightning" if "pytorch-lightning_version" in content else "state dict"
    others = [weights.place for weights in found[1:] if _rank(weights) > _rank(chosen)]
    beside = f"; others are {others[0]}" if others else ""
    kind = "EMA" if chosen.words & EMA_WORDS else "not said in the file"
    return f"{source} {chosen.place}", f"{kind}{beside}" if kind != "EMA" else f"EMA, by its name{beside}"


def shown_keys(content: Mapping[Any, Any]) -> str:
    """The first keys of a file, for a message."""
    keys = [str(key) for key in content]
    plain = [key if is_name(key) else ascii(key)[:100] for key in keys[:4]]
    return (", ".join(plain) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")) or "none"


def find_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Class names, whoever wrote them: ours, mmdetection's, LibreYOLO's, Ultralytics', Lightning's; () without any.

    Names that say no more than a number ("class 0", "class_1", "2") are none. Raises `InvalidInput` for a dict of names
    that are not numbered 0, 1, 2 and so on.
    """
    meta, parameters = _mapping(content.get("meta")), _mapping(content.get("hyper_parameters"))
    dataset = _mapping(meta.get("dataset_meta")) or _mapping(content.get("dataset_meta"))
    for place in (content, meta, dataset, parameters):
        for key in ("class_names", "CLASSES", "classes", "names"):
            names = _names(place.get(key))
            if names:
                return () if are_placeholders(names) else names
    return ()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # mmdetection writes the name alone where there is one class
        return (value,)
    if isinstance(value, Mapping):
        numbers = [int(key) if str(key).isdecimal() else -1 for key in value]
        if not all(isinstance(name, str) for name in value.values()) or -1 in numbers:
            return ()
        if sorted(numbers) != list(range(len(numbers))):
            raise InvalidInput(f"its class names are numbered {', '.join(map(str, numbers[:3]))} ..., not from 0 on")
        return tuple(name for _, name in sorted(zip(numbers, value.values(), strict=True)))
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return ()


def are_placeholders(names: Sequence[str]) -> bool:
    """Whether names are only numbered: "class 0", "class_1", "cls2" or "3", counted from 0 or 1."""
    found = [re.fullmatch(r"(?:class|cls|category|label)?[ _-]?(\d+)", name.strip().lower()) for name in names]
    numbers = [int(match[1]) if match else -1 for match in found]
    return numbers in ([*range(len(names))], [*range(1, len(names) + 1)])


def find_ids(content: Mapping[Any, Any]) -> tuple[int, ...]:
    """Category ids, which only we write; () without any."""
    ids = content.get("category_ids", _mapping(content.get("meta")).get("category_ids"))
    return tuple(ids) if isinstance(ids, (list, tuple)) and all(type(number) is int for number in ids) else ()


def find_input_size(content: Mapping[Any, Any]) -> tuple[int, int] | None:
    """(height, width), as our trainer and LibreYOLO note it; None where there is none, or nonsense."""
    size = next((content[key] for key in ("input_size", "imgsz") if content.get(key) is not None), None)
    if type(size) is int:
        size = (size, size)
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return None
    sound = all(type(side) is int and side > 0 and side % 32 == 0 for side in size)
    return (size[0], size[1]) if sound else None


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
