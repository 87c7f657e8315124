"""Where an ONNX file may have weights: in itself, or beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.artifact import Artifact
from runtimes.errors import InvalidInput
from runtimes.onnx_external import check_external_data


def outside(location: str, place: str) -> onnx.ModelProto:
    """A model whose tensor `w`, at the given place in the graph, lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    if place == "constant":
        nodes, initializers = [helper.make_node("Constant", [], ["w"], value=tensor), node], []
    elif place == "branch":
        branch = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "branch", [], [], [tensor])
        nodes, initializers = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)], []
    else:
        nodes, initializers = [node], [tensor]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    return helper.make_model(helper.make_graph(nodes, "graph", values[:1], values[1:], initializers))


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("kind", ["up", "absolute", "link", "link to a folder"])
def test_weights_outside_the_folder_are_refused(kind: str, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    np.zeros(4, np.float32).tofile(tmp_path / "secret.bin")
    (folder / "linked.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    location = {
        "up": "../secret.bin",
        "absolute": str(tmp_path / "secret.bin"),
        "link": "linked.bin",
        "link to a folder": "linked/secret.bin",
    }[kind]
    (folder / "model.onnx").write_bytes(outside(location, place).SerializeToString())
    with pytest.raises(InvalidInput, match=r"no file in its folder .*refused"):
        check_external_data(folder / "model.onnx")


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_weights_beside_it_are_allowed(place: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    np.zeros(4, np.float32).tofile(tmp_path / "weights" / "w.bin")
    (tmp_path / "model.onnx").write_bytes(outside("weights/w.bin", place).SerializeToString())
    check_external_data(tmp_path / "model.onnx")


@pytest.mark.parametrize("location", ["loop/w.bin", "*/_ORT_MEM_ADDR_/*", "x" * 5000, "a\0b", ""])
def test_what_is_no_file_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "model.onnx").write_bytes(outside(location, "initializer").SerializeToString())
    with pytest.raises(InvalidInput, match="no file in its folder"):
        check_external_data(tmp_path / "model.onnx")


def test_a_graph_under_a_number_that_others_cut_is_not_passed_over(tmp_path: Path) -> None:
    """Field 7 with a bit beyond the 32 that Google's reader looks at."""
    content = outside("../w.bin", "initializer").SerializeToString()
    graph = onnx.load_from_string(content).graph.SerializeToString()
    assert onnx.load_from_string(b"\x3a" + length(len(graph)) + graph).graph.node
    (tmp_path / "model.onnx").write_bytes(b"\xba\x80\x80\x80\x10" + length(len(graph)) + graph)
    with pytest.raises(InvalidInput, match="a field without a number"):
        check_external_data(tmp_path / "model.onnx")


def test_what_is_walked_is_all_that_a_file_holds(artifact: Artifact, tmp_path: Path) -> None:
    """In the file of a real model, whichever of its tensors is moved outside."""
    check_external_data(artifact.model)
    model = onnx.load(artifact.model)
    for index in range(0, len(model.graph.initializer), 25):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        tensor = changed.graph.initializer[index]
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value="../w.bin")
        (tmp_path / "model.onnx").write_bytes(changed.SerializeToString())
        with pytest.raises(InvalidInput, match="no file in its folder"):
            check_external_data(tmp_path / "model.onnx")


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs ..."""
    content = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            content = tag + length(len(content)) + content
    return b"\x3a" + length(len(content)) + content


def length(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x3a\x05\x0a", "longer than what holds it"),
        (b"\x3a" + b"\xff" * 11, "no end"),
        (b"\x3a\xff", "ends within a number"),
        (b"\x0b", "unknown kind 3"),
        (b"\x09abc", "longer than what holds it"),
        (nested(5000), "nested too deep"),
    ],
    ids=["length", "endless", "cut number", "group", "cut double", "deep"],
)
def test_damage_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        check_external_data(path)
