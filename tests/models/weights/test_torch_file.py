import contextlib
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import SYSTEM, Storage, Tensor, state_file

from detflow.errors import ArtifactError
from detflow.models.weights import torch_file
from detflow.models.weights.torch_file import read_state_dict

ITEMS = Storage("a", range(24))
OTHERS = Storage("b", [0.5, -1.0])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def write(path, tensor, **options):
    path.write_bytes(state_file(OrderedDict(x=tensor), [ITEMS], **options))
    return path


def test_offsets_strides_and_shared_storages_are_as_the_file_says(path):
    state = OrderedDict(
        plain=Tensor(ITEMS, 0, (2, 3, 4), (12, 4, 1)),
        turned=Tensor(ITEMS, 4, (4, 2), (1, 12)),
        repeated=Tensor(OTHERS, 1, (2,), (0,)),
        one=Tensor(OTHERS, 1, (), ()),
        none=Tensor(OTHERS, 0, (0, 5), (5, 1)),
        version=3,
    )
    # PyTorch gives the dict an attribute, which the pickle sets.
    state._metadata = OrderedDict(version=1)
    path.write_bytes(state_file(state, [OTHERS, ITEMS]))
    found = read_state_dict(path)
    assert list(found) == ["plain", "turned", "repeated", "one", "none"]
    numbers = np.arange(24, dtype=np.float32)
    np.testing.assert_array_equal(found["plain"], numbers.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["turned"], [[4, 16], [5, 17], [6, 18], [7, 19]])
    np.testing.assert_array_equal(found["repeated"], [-1, -1])
    assert found["one"].shape == ()
    assert float(found["one"]) == -1.0
    assert found["none"].shape == (0, 5)


class Command:
    """What a hostile pickle does when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (pickle.dumps(Command(), 2), "it names posix.mkdir, which no weights need"),
        (pickle.dumps(Command(), 4), "the instruction FRAME is not admitted"),
        (pickle.dumps({1, 2}, 2), "it names __builtin__.set"),
        # The name of an admitted module's that would lead elsewhere.
        (b"\x80\x02ccollections\nOrderedDict.__init__.__globals__\n.", "it names collections"),
        (b"\x80\x02ctorch\nload\n.", "it names torch.load"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "it remembers a value at place 2147483647"),
        # A name that is admitted is given attributes.
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "a name is given a state"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "not callable"),
        (b"\x80\x02(X\x07\x00\x00\x00storagetQ.", "a storage is described in a way"),
        (b"\x80\x02]2.", "the instruction DUP is not admitted"),
        (pickle.dumps([1], 2), "no dict and its storages"),
    ],
)
def test_nothing_but_arrays_is_unpickled(pickled, message, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="not a state dict of PyTorch") as caught:
        read_state_dict(write(path, None, pickled=pickled))
    assert message in str(caught.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(ITEMS, 1, (24,), (1,)), "x reaches out of its storage"),
        (Tensor(ITEMS, 0, (1 << 40,), (0,)), "x reaches out of its storage"),
        (Tensor(ITEMS, 24, (), ()), "x reaches out of its storage"),
        (Tensor(ITEMS, 0, (-1, 2), (1, 1)), "not whole numbers"),
        (Tensor(ITEMS, 0, (2, 2), (1,)), "do not go together"),
        (Tensor(ITEMS, 0, (1,) * 9, (1,) * 9), "do not go together"),
        (Tensor(ITEMS, 0, [2], (1,)), "not whole numbers"),
        (Tensor(7, 0, (2,), (1,)), "a tensor has no storage"),
        (Tensor(OTHERS, 0, (2,), (1,)), "the storage 'a' belongs to no tensor"),
    ],
)
def test_a_tensor_stays_inside_of_its_storage(tensor, message, path):
    with pytest.raises(ArtifactError) as caught:
        read_state_dict(write(path, tensor))
    assert message in str(caught.value)


def test_what_is_another_format_is_said_so(path):
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ArtifactError, match=r"a ZIP, as PyTorch 1\.6 and later write"):
        read_state_dict(path)
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match="not a state dict"):
        read_state_dict(path)
    with pytest.raises(ArtifactError, match="little-endian"):
        read_state_dict(write(path, None, system={**SYSTEM, "little_endian": False}))


def test_memory_is_bounded_before_the_file_is_read(path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MAX_BYTES", 10)
    with pytest.raises(ArtifactError, match="more than 10"):
        read_state_dict(write(path, Tensor(ITEMS, 0, (24,), (1,))))


def test_a_damaged_file_is_an_error_or_other_numbers_and_nothing_else(path):
    good = write(path, Tensor(ITEMS, 0, (2, 12), (12, 1))).read_bytes()
    random = np.random.default_rng(0)
    for bit in random.choice(8 * len(good), 100, replace=False).tolist():
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(ArtifactError):
            assert all(value.size <= 24 for value in read_state_dict(path).values())
    for size in range(0, len(good), 23):
        path.write_bytes(good[:size])
        with pytest.raises(ArtifactError):
            read_state_dict(path)
