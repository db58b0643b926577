import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.splits import (
    SplitBy,
    Splits,
    ValidationShare,
    parse_fractions,
    seeded_splits,
    take_validation,
    unit_hash,
)
from detflow.errors import ConfigError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def seeded(number, classes=lambda index: ["cat"], seed=0, kept=None, fractions=FRACTIONS, start=0):
    names = [f"{index:05d}" for index in range(start, number)]
    groups = {name: f"g{name}".encode() for name in names}
    return seeded_splits(
        groups,
        {name: tuple(sorted(set(classes(int(name))))) for name in names},
        fractions,
        seed,
        kept,
    )


def place(splits):
    return {name: split for split, members in splits.members.items() for name in members}


def test_fractions_are_met_and_every_class_is_everywhere():
    splits = seeded(3000, classes=lambda index: ["common"] + (["rare"] if index % 600 == 0 else []))
    sizes = {name: len(members) for name, members in splits.members.items()}
    assert sum(sizes.values()) == 3000
    assert abs(sizes["train"] - 2400) < 100
    assert abs(sizes["val"] - 300) < 60
    for members in splits.members.values():
        assert any(int(name) % 600 == 0 for name in members)


@pytest.mark.parametrize("number", [50, 200, 1000])
def test_adding_images_moves_none_of_the_old_ones(number):
    before = place(seeded(number))
    after = place(seeded(number + 300))
    assert {name: after[name] for name in before} == before


def test_kept_memberships_are_kept_whatever_comes():
    before = place(seeded(20, classes=lambda index: ["cat", f"rare{index}"]))
    after = place(seeded(40, classes=lambda index: ["cat"], seed=5, kept=before))
    assert {name: after[name] for name in before} == before


def test_the_seed_matters_and_repeats():
    assert place(seeded(100, seed=1)) == place(seeded(100, seed=1)) != place(seeded(100, seed=2))


def test_groups_stay_together():
    names = [f"{index:04d}" for index in range(900)]
    groups = {name: f"g{int(name) // 3}".encode() for name in names}
    placed = place(seeded_splits(groups, dict.fromkeys(names, ("cat",)), FRACTIONS, 0))
    assert all(placed[name] == placed[f"{int(name) // 3 * 3:04d}"] for name in names)
    # A group goes where its first member was kept.
    kept = place(
        seeded_splits(groups, dict.fromkeys(names, ("cat",)), FRACTIONS, 7, {"0000": "test"})
    )
    assert kept["0001"] == kept["0002"] == "test"


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_train_comes_first_where_there_is_little(number, seed):
    members = seeded(number, seed=seed).members
    assert sum(len(paths) for paths in members.values()) == number
    assert bool(members["train"]) == (number > 0)
    assert bool(members["val"] or members["test"]) == (number > 1)


def test_a_fraction_of_zero_stays_empty():
    splits = seeded(50, fractions={"train": 1.0, "val": 0.0})
    assert {name: len(members) for name, members in splits.members.items()} == {
        "train": 50,
        "val": 0,
    }


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=40), st.integers(0, 5))
def test_every_sample_has_one_split_and_no_class_is_needlessly_absent(classes, seed):
    splits = seeded(len(classes), classes=lambda index: classes[index], seed=seed)
    placed = place(splits)
    assert len(placed) == sum(len(members) for members in splits.members.values()) == len(classes)
    present = {
        one
        for index, some in enumerate(classes)
        for one in some
        if placed[f"{index:05d}"] == "train"
    }
    assert present == {one for some in classes for one in some}


def test_fractions_are_read():
    assert parse_fractions("train=0.7, val=.3") == {"train": 0.7, "val": 0.3}


@pytest.mark.parametrize(
    "text",
    ["", "train", "train=1,train=0", "a=0.5", "a=2,b=-1", "a=nan", "a/b=1", "a=0.5,b=0.6", "=1"],
)
def test_what_are_no_fractions_is_refused(text):
    with pytest.raises(ConfigError, match="--split"):
        parse_fractions(text)


@given(st.text(), st.integers())
def test_the_hash_is_in_the_unit_interval(text, seed):
    assert 0.0 <= unit_hash(seed, text.encode("utf-8", "replace").decode()) < 1.0


def validation(share="train=0.1", number=300, groups=None, seed=0, kept=None, **members):
    names = [f"{index:05d}" for index in range(number)]
    members = {name: tuple(names[part]) for name, part in members.items()}
    return take_validation(
        Splits(SplitBy.LISTS, members, {"all": tuple(members)}),
        ValidationShare.parse(share),
        groups or {name: name.encode() for name in names},
        dict.fromkeys(names, ("cat",)),
        seed,
        kept,
    )


def test_a_validation_split_is_a_share_of_train():
    splits = validation(train=slice(200), test=slice(200, 300))
    sizes = {name: len(members) for name, members in splits.members.items()}
    assert list(sizes) == ["train", "val", "test"]
    assert sizes["train"] + sizes["val"] == 200
    assert 10 <= sizes["val"] <= 30
    assert sizes["test"] == 100
    assert splits.unions == {"all": ("train", "val", "test")}
    again = validation(train=slice(200), test=slice(200, 300))
    assert again == splits
    assert validation(seed=1, train=slice(200)).members["val"] != splits.members["val"]


def test_a_validation_split_keeps_groups_and_what_was_kept():
    names = [f"{index:05d}" for index in range(300)]
    groups = {name: name[:4].encode() for name in names}
    kept = {"00000": "val", "00295": "val"}
    splits = validation(groups=groups, train=slice(290), test=slice(290, 300), kept=kept)
    inside = {name[:4] for name in splits.members["val"]}
    assert "0000" in inside
    assert not inside & {name[:4] for name in splits.members["train"]}
    assert len(splits.members["test"]) == 10


def test_a_validation_split_is_taken_from_a_seeded_split_too():
    train = seeded(3000, fractions={"train": 0.8, "test": 0.2})
    groups = {name: name.encode() for name in place(train)}
    classes = dict.fromkeys(groups, ("cat",))
    splits = take_validation(train, ValidationShare("train", 0.1), groups, classes, 0)
    assert 200 < len(splits.members["val"]) < 280


@pytest.mark.parametrize(
    ("share", "members", "reason"),
    [
        ("training=0.1", {"train": slice(9)}, "there is no split 'training'"),
        ("train=0.1", {"train": slice(9), "valid": slice(9, 10)}, "the dataset has a split valid"),
        ("train=0", {}, "is not SPLIT=SHARE"),
        ("train=1", {}, "is not SPLIT=SHARE"),
        ("train", {}, "is not SPLIT=SHARE"),
        ("=0.1", {}, "is not SPLIT=SHARE"),
        ("val=0.1", {}, "is not SPLIT=SHARE"),
        ("train=nan", {}, "is not SPLIT=SHARE"),
    ],
)
def test_what_is_no_validation_split_is_refused(share, members, reason):
    with pytest.raises(ConfigError, match=reason):
        validation(share, **members)
