import numpy as np

from detflow.training.small_boxes import describe_small_boxes


def test_the_five_classes_that_are_hit_hardest_are_named_and_no_other():
    names = [f"c{number:03}" for number in range(160) for _ in range(10)]
    sides = np.full((1600, 2), 20.0)
    for number in range(7):
        # Of class 0 one box in ten is small, of class 6 seven.
        sides[10 * number : 11 * number + 1] = (4.0, 15.0)
    line = describe_small_boxes(sides, names, min_level=3)
    assert line == (
        "smaller than a cell of the finest level, 8 pixels, on the canvas, and hard to find: "
        "1.8% of the boxes; most of c006 70%, c005 60%, c004 50%, c003 40%, c002 30%; "
        "a larger model.input_size helps them"
    )


def test_where_no_box_is_small_nobody_is_frightened():
    line = describe_small_boxes(np.array([[8.0, 8.0], [4.0, 16.0]]), ["a", "b"], min_level=3)
    assert line == "no box is smaller than a cell of the finest level, 8 pixels, on the canvas"
    assert "0%" not in describe_small_boxes(np.zeros((0, 2)), [], min_level=3)
