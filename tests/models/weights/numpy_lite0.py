"""EfficientNet-Lite0 in NumPy, written from the paper's table and the names of the state dict.

Nothing here is detflow's: it is what detflow's reading of the weights is compared with.
"""

import numpy as np

# Kernel, stride, expansion, output channels and repeats of each stage: EfficientNet-B0's
# (arXiv:1905.11946, table 1), whose Lite form has neither squeeze and excitation nor swish.
STAGES = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]


def classify(state, pixels, border=127.0):
    """Returns the 1,000 logits of an image.

    `state` has PyTorch's arrays, `pixels` [224, 224, 3] the values 0 to 255; `border` is the colour
    that the first convolution sees around the image, the network's own by default.
    """
    features = (pixels.transpose(2, 0, 1).astype(np.float32) - 127) / 128
    edge = (np.broadcast_to(border, 3) - 127) / 128
    features = relu6(norm(state, "_bn0", convolve(features, state["_conv_stem.weight"], 2, edge)))
    block, channels = 0, 32
    for kernel, stride, expansion, filters, repeats in STAGES:
        for repeat in range(repeats):
            name, inputs = f"_blocks.{block}", features
            if expansion > 1:
                features = mix(features, state[f"{name}._expand_conv.weight"])
                features = relu6(norm(state, f"{name}._bn0", features))
            depthwise = state[f"{name}._depthwise_conv.weight"]
            assert depthwise.shape == (channels * expansion, 1, kernel, kernel)
            features = each(features, depthwise, stride if repeat == 0 else 1)
            features = relu6(norm(state, f"{name}._bn1", features))
            features = norm(
                state, f"{name}._bn2", mix(features, state[f"{name}._project_conv.weight"])
            )
            if features.shape == inputs.shape:
                features = features + inputs
            block, channels = block + 1, filters
    features = relu6(norm(state, "_bn1", mix(features, state["_conv_head.weight"])))
    return state["_fc.weight"] @ features.mean((1, 2)) + state["_fc.bias"]


def relu6(values):
    return np.clip(values, 0, 6)


def norm(state, name, values):
    gamma, beta, mean, variance = (
        state[f"{name}.{part}"].reshape(-1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (values - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def mix(values, kernel):
    """Convolves with a kernel of one cell."""
    return np.einsum("oi,ihw->ohw", kernel[:, :, 0, 0], values, optimize=True)


def windows(values, size, stride, edge=0.0):
    """Yields each cell of the kernel with what lies under it; as TensorFlow pads for SAME."""
    channels, height, width = values.shape
    rows, columns = -(-height // stride), -(-width // stride)
    before = [
        max((count - 1) * stride + size - side, 0) // 2
        for count, side in ((rows, height), (columns, width))
    ]
    padded = np.empty((channels, height + 2 * size, width + 2 * size), np.float32)
    padded[:] = np.broadcast_to(edge, channels).reshape(-1, 1, 1)
    padded[:, before[0] : before[0] + height, before[1] : before[1] + width] = values
    for y in range(size):
        for x in range(size):
            under = padded[:, y : y + rows * stride : stride, x : x + columns * stride : stride]
            yield y, x, under


def each(values, kernel, stride):
    """Convolves each channel by itself."""
    return sum(
        kernel[:, 0, y, x].reshape(-1, 1, 1) * under
        for y, x, under in windows(values, kernel.shape[2], stride)
    )


def convolve(values, kernel, stride, edge):
    return sum(
        np.einsum("oi,ihw->ohw", kernel[:, :, y, x], under, optimize=True)
        for y, x, under in windows(values, kernel.shape[2], stride, edge)
    )
