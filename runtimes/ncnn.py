"""NCNN."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cores import threads_of
from .errors import InvalidInput, MissingBackend
from .ncnn_focus import without_focus
from .ncnn_format import Layer, Weights, read_model, to_param
from .ncnn_graph import INPUT, OUTPUT, blob_shapes, input_name, output_names, output_shape
from .postprocess import Floats
from .preprocess import empty_input
from .proof import weights_beside
from .runtime import CopyingRequest, Request, check_input, check_threads, refuse_sigmoid, spec_beside
from .spec import ModelSpec
from .third_party import ThirdPartyGraph
from .third_party_layout import Port

# How the weights of each precision may be stored; at least one must be stored as the last of them.
STORAGE = {"fp32": ["float32"], "fp16": ["float32", "float16"], "int8": ["float32", "int8"]}

RECIPE = "Export the checkpoint: yolox-deploy export --weights FILE --target ncnn."


class NcnnRuntime:
    """Runs a `.param` file and the `.bin` beside it, on the CPU.

    spec: read from `spec.json` beside the file where it is not given. threads: of one image, no more than there are
    processors; unset, the cores there are, shared out between the streams. streams: images that are worked on at a
    time, by threads that share this runtime.
    input_size: (height, width) other than the spec's, in multiples of the largest stride: the graph is free of sizes;
    `.spec` then names it. bf16: compute in bfloat16 what is not int8, which is faster where the processor has it, and
    less exact. sigmoid: of a third-party file whose scores are logits, to make probabilities of them.

    Without `bf16` everything computes in float32, whatever NCNN's own defaults are on this processor, but convolutions
    that are stored in int8: fp16 concerns how weights are stored. A batch of any size runs image by image.

    Safe to share between threads. Raises `MissingBackend` without ncnn, `InvalidInput` for files that are damaged or do
    not fit each other or the spec.
    """

    def __init__(
        self,
        path: str | Path,
        spec: ModelSpec | None = None,
        threads: int | None = None,
        streams: int = 1,
        input_size: tuple[int, int] | None = None,
        bf16: bool = False,
        sigmoid: bool = False,
    ) -> None:
        check_threads(threads, streams)  # with less, OpenMP would end the process
        path = Path(path)
        third_party = spec is not None and not path.with_name("spec.json").exists()
        spec = spec_beside(path, spec)
        self.spec: ModelSpec = replace(spec, input_size=input_size) if input_size else spec
        self._third_party: ThirdPartyGraph | None = None
        self._input_name, self._output_names = INPUT, [OUTPUT]
        layers: list[Layer] | None = None
        if third_party:
            layers = self._open_third_party(path, sigmoid)
        else:
            refuse_sigmoid(path, sigmoid)
            self._check_against_file(path)
        self._net: Any = open_net(path, threads_of(threads, streams), bf16, layers)
        if self._third_party is not None:
            self._third_party.check(self.infer)

    def _open_third_party(self, path: Path, sigmoid: bool) -> list[Layer]:
        """The layers to run, checked as those of an artifact are: NCNN itself does not check."""
        layers, weights = read_model(path)
        layers = without_focus(layers)
        size = (3, *self.spec.input_size)
        try:
            shapes = blob_shapes(layers, size, third_party=True)
        except InvalidInput as error:
            raise InvalidInput(
                f"{path} is an NCNN file of another tool that does not run here: {error} {RECIPE}"
            ) from None
        _check_storage(weights, self.spec, path)
        self._input_name, self._output_names = input_name(layers), output_names(layers)
        outputs = [Port(name, "float32", (None, *shapes[name])) for name in self._output_names]
        port = Port(self._input_name, "float32", (self.spec.batch, *size))
        self._third_party = ThirdPartyGraph(path, self.spec, [port], outputs, sigmoid)
        return layers

    def _check_against_file(self, path: Path) -> None:
        """Files and spec must fit each other, since NCNN itself does not check."""
        spec = self.spec
        if spec.decoded or spec.uint8_input or spec.nms or spec.topk:
            raise InvalidInput(
                f"the spec of {path} promises more than NCNN files hold: float input, boxes not decoded."
            )
        layers, weights = read_model(path)
        try:
            found = output_shape(layers, (3, *spec.input_size))
        except InvalidInput as error:
            raise InvalidInput(f"{path} is no NCNN file that runs here: {error}") from None
        promised = (5 + spec.num_classes, spec.num_anchors)
        if found != promised:
            raise InvalidInput(f"the spec of {path} promises output {promised}, the graph has {found}.")
        _check_storage(weights, spec, path)
        first = next(layer for layer in layers if INPUT in layer.inputs)
        self._reads_only = first.kind in ("Convolution", "ConvolutionDepthWise")

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        net = self._net
        if net is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        check_input(images, self.spec)
        if self._third_party is not None:
            return self._infer_third_party(net, self._third_party, images)
        output = np.empty((len(images), self.spec.num_anchors, 5 + self.spec.num_classes), np.float32)
        for index, image in enumerate(images):
            output[index] = run_image(net, image)[0].T
        return output

    def _infer_third_party(self, net: Any, graph: ThirdPartyGraph, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        found = []
        for image in graph.feed(images):
            values = run_image(net, image, self._output_names, self._input_name)
            found.append(graph.read([value[None] for value in values], 1))
        return np.concatenate(found)

    def new_request(self, batch: int) -> Request:
        """See `runtime.Request`: NCNN reads the very memory."""
        net = self._net
        if net is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        if self._third_party is not None:
            return CopyingRequest(self, batch)
        return NcnnRequest(net, self.spec, batch, self._reads_only)

    def close(self) -> None:
        self._net = None


class NcnnRequest:
    """See `runtime.Request`."""

    def __init__(self, net: Any, spec: ModelSpec, batch: int, reads_only: bool) -> None:
        from ncnn import Mat, PoolAllocator

        self.images = empty_input(batch, spec)
        self._net, self._mats = net, [Mat(image) for image in self.images]
        self._reads_only = reads_only
        self._outputs = np.empty((batch, 5 + spec.num_classes, spec.num_anchors), np.float32)
        # The net's own pools, which all threads share, fill up over tens of thousands of images: which sizes are taken
        # at a time is chance. These hold what one image takes after a few.
        self._pools = PoolAllocator(), PoolAllocator()

    def run(self) -> npt.NDArray[np.float32]:
        """See `Request.run`."""
        for mat, place in zip(self._mats, self._outputs, strict=True):
            # A layer that works in place asks who else holds its input, which a Mat over foreign memory cannot say.
            output = None
            try:
                [output] = extract(self._net, mat if self._reads_only else mat.clone(), (OUTPUT,), self._pools)
                place[...] = output
            finally:
                output = None  # memory of the pool, which an error's traceback must not hold when the pool has gone
        outputs: Floats = self._outputs.transpose(0, 2, 1)
        return outputs


def open_net(path: Path, threads: int | None = None, bf16: bool = False, layers: Sequence[Layer] | None = None) -> Any:
    """An `ncnn.Net` of files that were checked, with every option set that decides on the precision.

    layers: to run instead of those in the file.
    """
    try:
        import ncnn
    except ImportError:
        raise MissingBackend("NCNN files need NCNN: pip install ncnn") from None
    net = ncnn.Net()
    # NCNN's defaults differ from processor to processor.
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_vulkan_compute"):
        setattr(net.opt, name, False)
    for name in ("use_int8_inference", "use_packing_layout", "use_winograd_convolution", "use_sgemm_convolution"):
        setattr(net.opt, name, True)
    net.opt.use_bf16_storage = bf16
    if threads is not None:
        net.opt.num_threads = min(threads, os.cpu_count() or 1)
    failed = net.load_param(str(path)) if layers is None else net.load_param_mem(to_param(layers))
    if failed or net.load_model(str(weights_beside(path))):
        raise InvalidInput(f"this version of NCNN cannot load {path}: export it again.")
    return net


def run_image(net: Any, image: Floats, names: Sequence[str] = (OUTPUT,), name: str = INPUT) -> list[Floats]:
    """Values of the graph, by name, for one image (3, H, W) float32. name: of the input."""
    from ncnn import Mat

    # A Mat takes memory over as it lies there: it knows no strides, does not keep the array alive, and layers that work
    # in place would write into it. So NCNN gets a copy of its own.
    pixels = np.ascontiguousarray(image)
    return [np.array(value) for value in extract(net, Mat(pixels).clone(), names, (), name)]


def extract(net: Any, pixels: Any, names: Sequence[str], pools: Sequence[Any] = (), name: str = INPUT) -> list[Any]:
    """As `run_image`, from one `ncnn.Mat` to others.

    pools: allocators of values and of what layers need on the way, for one thread at a time, instead of the net's own;
    the values returned have to be let go of before them.
    """
    extractor = net.create_extractor()
    extractor.set_light_mode(len(names) == 1)  # else values would be freed once they are used
    if pools:
        extractor.set_blob_allocator(pools[0])
        extractor.set_workspace_allocator(pools[1])
    found, value, code = [], None, extractor.input(name, pixels)
    try:
        for wanted in names:
            failed, value = extractor.extract(wanted)
            if code or failed:
                raise InvalidInput("NCNN could not run the model; it may be short of memory.")
            found.append(value)
    except BaseException:
        found.clear()
        raise
    finally:  # all that lies in the pools has to go before them, and the traceback of Ctrl-C may outlive them
        value = None
        extractor.clear()
    return found


def _check_storage(weights: Mapping[str, Weights], spec: ModelSpec, path: Path) -> None:
    """The precision that the spec promises must be the one of the weights."""
    found = {one.weight.dtype.name for one in weights.values()}
    allowed = STORAGE[spec.precision]
    if not found <= set(allowed) or allowed[-1] not in found:
        raise InvalidInput(f"the spec of {path} promises {spec.precision}, its weights are {', '.join(sorted(found))}.")
