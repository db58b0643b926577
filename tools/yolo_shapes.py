#!/usr/bin/env python
"""Writes an ONNX file of YOLO11n's shapes with drawn weights, to measure detflow's time beside.

    tools/yolo_shapes.py yolo11n.onnx

How long a network takes does not depend on its weights, so this needs neither PyTorch nor anybody's
checkpoint. The layers and their widths are those of `yolo11.yaml` at scale n (depth .5, width .25):
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/cfg/models/11/yolo11.yaml. Batch
norms are folded into the convolutions, as exporters do; the result has 80 classes and no
suppression, as Ultralytics exports it by default.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 640
NUM_CLASSES = 80
_REG_MAX = 16


class Network:
    """Nodes and weights, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.num_parameters = 0
        self._random = np.random.default_rng(0)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> list[str]:
        """Appends a node; returns the names of its outputs."""
        names = [f"{op}{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def one(self, op: str, *inputs: str, **attributes: object) -> str:
        """Appends a node of one output; returns its name."""
        return self.add(op, *inputs, **attributes)[0]

    def constant(self, value: np.ndarray) -> str:
        """Appends a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        """Appends an int64 vector; returns its name."""
        return self.constant(np.array(values, np.int64))

    def conv(
        self, x: str, c1: int, c2: int, k: int = 1, s: int = 1, groups: int = 1, act: bool = True
    ) -> str:
        """Appends a convolution with its folded batch norm, and SiLU."""
        shape = (c2, c1 // groups, k, k)
        weights = self._random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        self.num_parameters += weights.size + c2
        x = self.one(
            "Conv",
            x,
            self.constant(weights),
            self.constant(np.zeros(c2, np.float32)),
            kernel_shape=[k, k],
            strides=[s, s],
            pads=[k // 2] * 4,
            group=groups,
        )
        return self.one("Mul", x, self.one("Sigmoid", x)) if act else x

    def bottleneck(self, x: str, c: int, hidden: int) -> str:
        """Appends two convolutions of 3×3 and the way around them."""
        return self.one("Add", x, self.conv(self.conv(x, c, hidden, 3), hidden, c, 3))

    def c3k2(self, x: str, c1: int, c2: int, *, c3k: bool, e: float = 0.5) -> str:
        """Appends a C3k2 block of one repetition."""
        c = int(c2 * e)
        parts = self.add("Split", self.conv(x, c1, 2 * c), outputs=2, axis=1, num_outputs=2)
        last = parts[-1]
        if c3k:
            h = c // 2
            y = self.conv(last, c, h)
            for _ in range(2):
                y = self.bottleneck(y, h, h)
            joined = self.one("Concat", y, self.conv(last, c, h), axis=1)
            last = self.conv(joined, 2 * h, c)
        else:
            last = self.bottleneck(last, c, c // 2)
        return self.conv(self.one("Concat", *parts, last, axis=1), 3 * c, c2)

    def sppf(self, x: str, c: int) -> str:
        """Appends the pooling pyramid."""
        parts = [self.conv(x, c, c // 2)]
        for _ in range(3):
            parts.append(
                self.one("MaxPool", parts[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
            )
        return self.conv(self.one("Concat", *parts, axis=1), 2 * c, c)

    def c2psa(self, x: str, c: int) -> str:
        """Appends the block of attention on the coarsest cells."""
        h = c // 2
        a, b = self.add("Split", self.conv(x, c, c), outputs=2, axis=1, num_outputs=2)
        heads, head, key = h // 64, 64, 32
        cells = (SIDE // 32) ** 2
        qkv = self.conv(b, h, h + 2 * key * heads, act=False)
        qkv = self.one("Reshape", qkv, self.integers(1, heads, 2 * key + head, cells))
        q, k, v = self.add("Split", qkv, self.integers(key, key, head), outputs=3, axis=2)
        weights = self.one("MatMul", self.one("Transpose", q, perm=[0, 1, 3, 2]), k)
        weights = self.one(
            "Softmax",
            self.one("Mul", weights, self.constant(np.float32(key**-0.5))),
            axis=-1,
        )
        seen = self.one("MatMul", v, self.one("Transpose", weights, perm=[0, 1, 3, 2]))
        shape = self.integers(1, h, SIDE // 32, SIDE // 32)
        place = self.conv(self.one("Reshape", v, shape), h, h, 3, groups=h, act=False)
        seen = self.one("Add", self.one("Reshape", seen, shape), place)
        b = self.one("Add", b, self.conv(seen, h, h, act=False))
        b = self.one("Add", b, self.conv(self.conv(b, h, 2 * h), 2 * h, h, act=False))
        return self.conv(self.one("Concat", a, b, axis=1), c, c)

    def head(self, x: str, c: int) -> str:
        """Appends what one level detects: [1, 4 · 16 + classes, cells]."""
        box, classes = 64, max(64, min(NUM_CLASSES, 100))
        y = self.conv(self.conv(x, c, box, 3), box, box, 3)
        y = self.conv(y, box, 4 * _REG_MAX, act=False)
        z = self.conv(self.conv(x, c, c, 3, groups=c), c, classes)
        z = self.conv(self.conv(z, classes, classes, 3, groups=classes), classes, classes)
        z = self.conv(z, classes, NUM_CLASSES, act=False)
        both = self.one("Concat", y, z, axis=1)
        return self.one("Reshape", both, self.integers(1, 4 * _REG_MAX + NUM_CLASSES, -1))


def build() -> tuple[onnx.ModelProto, int]:
    """Returns the file and the number of its weights."""
    net = Network()
    x = net.conv("images", 3, 16, 3, 2)
    x = net.c3k2(net.conv(x, 16, 32, 3, 2), 32, 64, c3k=False, e=0.25)
    p3 = net.c3k2(net.conv(x, 64, 64, 3, 2), 64, 128, c3k=False, e=0.25)
    p4 = net.c3k2(net.conv(p3, 128, 128, 3, 2), 128, 128, c3k=True)
    p5 = net.c3k2(net.conv(p4, 128, 256, 3, 2), 256, 256, c3k=True)
    p5 = net.c2psa(net.sppf(p5, 256), 256)

    def enlarge(y: str) -> str:
        scales = net.constant(np.array([1, 1, 2, 2], np.float32))
        return net.one(
            "Resize", y, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric"
        )

    n4 = net.c3k2(net.one("Concat", enlarge(p5), p4, axis=1), 384, 128, c3k=False)
    n3 = net.c3k2(net.one("Concat", enlarge(n4), p3, axis=1), 256, 64, c3k=False)
    m4 = net.c3k2(net.one("Concat", net.conv(n3, 64, 64, 3, 2), n4, axis=1), 192, 128, c3k=False)
    m5 = net.c3k2(net.one("Concat", net.conv(m4, 128, 128, 3, 2), p5, axis=1), 384, 256, c3k=True)
    levels = [net.head(level, c) for level, c in ((n3, 64), (m4, 128), (m5, 256))]
    found = net.one("Concat", *levels, axis=2)
    box, scores = net.add(
        "Split", found, net.integers(4 * _REG_MAX, NUM_CLASSES), outputs=2, axis=1
    )
    box = net.one("Reshape", box, net.integers(1, 4, _REG_MAX, -1))
    box = net.one("Softmax", net.one("Transpose", box, perm=[0, 2, 1, 3]), axis=1)
    steps = net.constant(np.arange(_REG_MAX, dtype=np.float32).reshape(1, _REG_MAX, 1, 1))
    box = net.one("ReduceSum", net.one("Mul", box, steps), net.integers(1), keepdims=0)
    output = net.one("Concat", box, net.one("Sigmoid", scores), axis=1)
    graph = helper.make_graph(
        net.nodes,
        "yolo11n",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        net.constants,
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8), net.num_parameters


def main() -> None:
    """Writes the file that is named."""
    model, num_parameters = build()
    Path(sys.argv[1]).write_bytes(model.SerializeToString())
    print(f"{num_parameters:,} weights")


if __name__ == "__main__":
    main()
