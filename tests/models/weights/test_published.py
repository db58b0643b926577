import pytest

from detflow.models.weights.published import (
    PUBLISHED,
    describe_initial_weights,
    find_by_digest,
    find_origin,
    state_licence,
)

LITE0 = PUBLISHED["efficientnet-lite0-imagenet"]
TERMS = {
    "name": "efficientnet-lite0-imagenet",
    "data": LITE0.data,
    "licence": LITE0.licence,
}
DESCRIBED = (
    "efficientnet-lite0-imagenet: data ImageNet ILSVRC 2012 (photos licensed for research); "
    "licence of the weights Apache-2.0"
)
SCRATCH = {"records": "0123456789abcdef", "learnt": [], "begun_with": None}


def test_a_stated_licence_stands_where_nobody_knows_one():
    mine = {"source": "mine.pth", "terms": {}}
    told = "mine.pth, made from nobody knows what; stated licence MIT"
    assert describe_initial_weights(mine, "MIT") == told
    run = {"source": "runs/a", "terms": {**SCRATCH, "begun_with": {"stated_licence": "MIT"}}}
    assert describe_initial_weights(run).endswith("nobody knows what; stated licence MIT")


def test_a_stated_licence_is_that_of_what_the_first_of_many_runs_began_with():
    terms = {}
    for _ in range(2000):
        terms = {**SCRATCH, "begun_with": terms}
    assert find_origin(terms) == {}
    told = describe_initial_weights({"source": "runs/a", "terms": terms}, "MIT")
    assert told.endswith("which began with nobody knows what; stated licence MIT")
    assert find_origin(state_licence(terms, "MIT")) == {"stated_licence": "MIT"}
    for known in (SCRATCH, TERMS, {**SCRATCH, "begun_with": TERMS}):
        assert state_licence(known, "MIT") is known


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (None, "none: trained from scratch"),
        (
            {"source": "weights/mine.pth", "terms": TERMS},
            f"weights/mine.pth, made from {DESCRIBED}",
        ),
        ({"source": "there.tar.gz", "terms": {}}, "there.tar.gz, made from nobody knows what"),
        (
            {"source": "runs/a", "terms": SCRATCH},
            "runs/a, made from a run of detflow on records 0123456789ab, which began with scratch",
        ),
        (
            {"source": "exports/a", "terms": {**SCRATCH, "begun_with": TERMS}},
            "exports/a, made from a run of detflow on records 0123456789ab, which began with "
            f"{DESCRIBED}",
        ),
    ],
)
def test_a_card_says_what_its_weights_were_made_from_however_far_back(record, line):
    assert describe_initial_weights(record) == line


def test_a_file_is_known_by_its_digest():
    assert find_by_digest(str(LITE0.sha256)) == "efficientnet-lite0-imagenet"
    assert find_by_digest("0" * 64) is None
