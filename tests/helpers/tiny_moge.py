"""A graph with the inputs and outputs of MoGe-2's ONNX files that reads points off the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

METRES = 2.5
"""How many metres the graph says that a unit of its points is."""
_SPAN = np.array([4.0, 4.0, 3.0])
_LOW = np.array([-2.0, -2.0, 0.3])


def as_photo(points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a photo (h, w, 3) off which the graph reads ``points`` (h, w, 3), rounded."""
    levels = np.rint(255 * (points - _LOW) / _SPAN)
    assert levels.min() >= 0 and levels.max() <= 255
    return levels.astype(np.uint8)


def as_points(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the points (h, w, 3) that the graph reads off ``photo``."""
    return (photo / 255 * _SPAN + _LOW).astype(np.float32)


def write_moge(
    folder: Path,
    *,
    scale_name: str = "scale",
    metres: float = METRES,
    side: int | str = "width",
    tokens: bool = True,
) -> Path:
    """Write model.onnx into ``folder`` and return the folder; where red is 0 there is no surface.

    ``side``: a number for an export of pictures of that width alone; ``tokens``: whether it takes
    their number. Skips without the package onnx.
    """
    onnx = pytest.importorskip("onnx", reason="builds graphs")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT

    def constant(name: str, values: object) -> object:
        return onnx.numpy_helper.from_array(np.asarray(values, np.float32), name)

    nodes = [
        helper.make_node("Transpose", ["image"], ["colours"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["colours", "span"], ["spread"]),
        helper.make_node("Add", ["spread", "low"], ["points"]),
        helper.make_node("Gather", ["colours", "first"], ["red"], axis=3),
        helper.make_node("Greater", ["red", "zero"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["mask"], to=number),
        helper.make_node("Identity", ["points"], ["normal"]),
        # Of the number of tokens, so that it has to be given.
        helper.make_node("Mul", ["count", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "metres"], [scale_name]),
    ]
    inputs = [helper.make_tensor_value_info("image", number, ["batch", 3, "height", side])]
    initial = [
        constant("span", _SPAN),
        constant("low", _LOW),
        constant("zero", 0),
        constant("nought", 0),
        constant("metres", [metres]),
        onnx.numpy_helper.from_array(np.array(0, np.int64), "first"),
    ]
    if tokens:
        inputs.append(helper.make_tensor_value_info("num_tokens", onnx.TensorProto.INT64, []))
        nodes.insert(0, helper.make_node("Cast", ["num_tokens"], ["count"], to=number))
    else:
        initial.append(constant("count", 1))
    outputs = [
        helper.make_tensor_value_info("points", number, None),
        helper.make_tensor_value_info("normal", number, None),
        helper.make_tensor_value_info("mask", number, None),
        helper.make_tensor_value_info(scale_name, number, None),
    ]
    graph = helper.make_graph(nodes, "moge", inputs, outputs, initial)
    opset = [helper.make_opsetid("", 14)]
    folder.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    return folder
