import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.runs.plan import MAX_FITS, Plan


def progress(plan, begin, step):
    piece = [piece for piece in plan.pieces(begin) if piece.start <= step][-1]
    return piece.at(step)


def test_a_fixed_run_passes_evenly_from_its_beginning_to_its_end():
    plan = Plan.fixed(100)
    assert plan.total == 100
    assert [progress(plan, 20, step) for step in (0, 20, 60, 100, 200)] == [0, 0, 0.5, 1, 1]


def test_before_the_first_fit_nothing_passes_and_the_length_is_not_known():
    assert Plan().total is None
    assert progress(Plan(), 10, 5000) == pytest.approx(0, abs=1e-4)


def test_the_first_fit_counts_as_if_it_had_been_known_from_the_start():
    plan = Plan().refit(40, 200)
    for step in (40, 100, 200):
        assert progress(plan, 10, step) == progress(Plan.fixed(200), 10, step)


def test_a_later_fit_goes_on_from_where_the_run_stands():
    plan = Plan().refit(40, 200).refit(105, 145)
    assert plan.total == 145
    assert progress(plan, 10, 105) == pytest.approx(progress(Plan.fixed(200), 10, 105))
    # Half of the steps that were left.
    assert progress(plan, 10, 125) == pytest.approx(0.75)
    assert progress(plan, 10, 145) == 1


@given(
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 3000)), min_size=1, max_size=12),
)
def test_progress_never_falls_and_reaches_its_end_with_the_run(begin, fits):
    plan, step = Plan(), 0
    for after, left in fits:
        step += after
        plan = plan.refit(step, step + left)
    points = sorted({*range(1, plan.total, 17), *(fit.step for fit in plan.fits), plan.total})
    values = [progress(plan, begin, number) for number in points]
    # The first fit may jump ahead: it counts from the start.
    assert values == sorted(values)
    assert values[-1] == 1 or plan.total <= begin


def test_a_plan_is_written_down_as_pairs_and_is_full_at_last():
    plan = Plan()
    for step in range(MAX_FITS):
        assert not plan.is_full
        plan = plan.refit(step, 1000)
    assert plan.is_full
    assert Plan.from_numbers([list(fit) for fit in plan.fits]) == plan
