"""k evenly spaced checkpoints: what is read of a trace is what a recorder of k would have kept."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skorch.callbacks import EarlyStopping

from skinfluence import Checkpoint, TraceRecorder, TrainingTrace
from skinfluence.rows._seeds import seeded
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import needs_of, recorder_for
from skinfluence.trace._spacing import nearest, planned_epochs
from tests._shared.traces import Interrupt, X, Y, small, trained

NUMBERS = st.integers(1, 40)
# Calls of fit and partial_fit: for how many epochs, and how many of these came to their end.
CALLS = st.lists(
    st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    min_size=1,
    max_size=3,
)
KINDS = st.one_of(st.just("last"), st.just("all"), NUMBERS)


def epochs_of(checkpoints):
    return [checkpoint.epoch for checkpoint in checkpoints]


def recorded(calls, *kinds):
    """The trace that a recorder of these numbers of checkpoints makes of calls of training."""
    needs = TraceNeeds(frozenset(kinds))
    starts, epochs = [], []
    n_epochs = 0
    for planned, trained_for in calls:
        starts.append(n_epochs)
        kept = {n_epochs + e for e in needs.epochs(planned) if e <= trained_for}
        n_epochs += trained_for
        epochs += sorted(kept | {n_epochs})
    return trace_at(
        epochs,
        segment_starts=tuple(starts),
        planned_epochs=tuple(planned for planned, _ in calls),
    )


def trace_at(epochs, **calls):
    states = [{} for _ in epochs]
    rate = np.array([0.1])
    return TrainingTrace(
        n_samples=3,
        initial_state={},
        final_state=states[-1],
        checkpoints=[Checkpoint(e, rate, s) for e, s in zip(epochs, states, strict=True)],
        learning_rates=np.empty((0, 1)),
        **calls,
    )


@given(st.integers(0, 200), NUMBERS)
def test_planned_epochs_are_evenly_spaced(n_epochs, k):
    epochs = planned_epochs(n_epochs, k)
    assert len(epochs) == min(k, n_epochs)
    gaps = np.diff([0, *epochs])
    assert not n_epochs or (gaps.min() >= 1 and epochs[-1] == n_epochs)
    assert not n_epochs or gaps.max() - gaps.min() <= 1
    assert planned_epochs(n_epochs, "last") == ([n_epochs] if n_epochs else [])
    assert planned_epochs(n_epochs, "all") == list(range(1, n_epochs + 1))


@given(NUMBERS, CALLS, KINDS)
def test_what_else_is_recorded_does_not_decide_what_is_read(k, calls, other):
    alone = recorded(calls, k)
    chosen = epochs_of(alone.evenly_spaced(k))
    for shared in (recorded(calls, k, other), recorded(calls, "all")):
        assert epochs_of(shared.evenly_spaced(k)) == chosen
        TraceNeeds(frozenset({k})).check_trace(shared, None, None)
    TraceNeeds(frozenset({k})).check_trace(alone, None, None)  # also of a training that ended early
    assert len(chosen) <= k
    assert chosen[-1] == alone.checkpoints[-1].epoch
    if len(calls) == 1:
        assert chosen == epochs_of(alone.checkpoints)  # all that it recorded is read


@given(NUMBERS, CALLS, NUMBERS)
def test_other_recordings_give_the_nearest_that_they_have(k, calls, other):
    trace = recorded(calls, other)
    chosen = epochs_of(trace.evenly_spaced(k))
    assert 1 <= len(chosen) <= k
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == trace.checkpoints[-1].epoch
    assert set(chosen) <= set(epochs_of(trace.checkpoints))


@pytest.mark.parametrize(
    ("epochs", "place", "found"),
    [
        ([1, 2, 3, 4], 3.5, 4),  # as near as 3, and the one that is planned
        ([1, 2, 3, 4], 2.5, 2),
        ([2, 5], 3.5, 2),  # neither is planned: the earlier
        ([1, 7], 5.2, 7),
        ([2, 4, 6, 12, 14, 20], 40 / 3, 14),  # nearer to the place than to the planned 13
    ],
)
def test_nearest_takes_what_is_planned_first(epochs, place, found):
    assert epochs[nearest(epochs, place)] == found


def test_a_whole_recording_gives_what_was_planned():
    trace = recorded([(7, 7)], "all")
    assert epochs_of(trace.evenly_spaced(2)) == [4, 7]
    assert epochs_of(trace.evenly_spaced(3)) == [2, 5, 7]
    assert epochs_of(trace.evenly_spaced(20)) == list(range(1, 8))
    assert trace.evenly_spaced("all") is trace.checkpoints
    assert epochs_of(trace.evenly_spaced("last")) == [7]
    stopped = recorded([(40, 21)], "all")
    assert epochs_of(stopped.evenly_spaced(4)) == [10, 20, 21]
    several = recorded([(3, 3), (3, 3)], 3)
    assert epochs_of(several.evenly_spaced(3)) == [2, 4, 6]
    ended_at_once = trace_at([0], segment_starts=(0,), planned_epochs=(5,))
    assert epochs_of(ended_at_once.evenly_spaced(3)) == [0]


@pytest.mark.parametrize("load_best", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("checkpoints", [2, 8, 40])
def test_early_stopping_keeps_to_the_plan(checkpoints, first, load_best):
    def stopped(asked):
        stopping = EarlyStopping("train_loss", patience=2, load_best=load_best)
        recorder = TraceRecorder(checkpoints=asked)
        callbacks = [recorder, stopping] if first else [stopping, recorder]
        net = trained(small(lr=30.0, max_epochs=40, callbacks=callbacks))
        assert 2 < len(net.history) < 40
        return recorder.trace_

    assert_reads_alike(stopped(checkpoints), stopped("all"), checkpoints)


@pytest.mark.parametrize("checkpoints", [1, 3, 9])
@pytest.mark.parametrize("moment", ["on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("step", [2, 8, 9])
def test_an_interrupted_training_that_goes_on_keeps_to_the_plans(step, moment, checkpoints):
    def continued(asked):
        recorder, stop = TraceRecorder(checkpoints=asked), Interrupt(moment, step)
        net = trained(small(max_epochs=6, callbacks=[stop, recorder]))
        traces = [recorder.trace_]
        net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not stop]
        with seeded(1):
            net.set_params(max_epochs=4).partial_fit(X, Y)
        return [*traces, recorder.trace_]

    for alone, whole in zip(continued(checkpoints), continued("all"), strict=True):
        assert_reads_alike(alone, whole, checkpoints)
    assert whole.planned_epochs == (6, 4)


def assert_reads_alike(alone, whole, checkpoints):
    mine, others = alone.evenly_spaced(checkpoints), whole.evenly_spaced(checkpoints)
    assert epochs_of(mine) == epochs_of(others)
    for one, two in zip(mine, others, strict=True):
        assert all(torch.equal(tensor, two.state[name]) for name, tensor in one.state.items())
        np.testing.assert_array_equal(one.learning_rate, two.learning_rate)
    TraceNeeds(frozenset({checkpoints})).check_trace(alone, X, Y)
    TraceNeeds(frozenset({checkpoints})).check_trace(whole, X, Y)


def test_plans_are_saved_with_the_trace(tmp_path):
    recorder = TraceRecorder(checkpoints=2, storage=tmp_path / "t")
    trained(small(max_epochs=5), recorder).set_params(max_epochs=3).partial_fit(X, Y)
    assert recorder.trace_.planned_epochs == (5, 3)
    assert TrainingTrace.load(tmp_path / "t").planned_epochs == (5, 3)


def test_needs_are_merged_and_made_into_a_recorder():
    both = TraceNeeds(frozenset({2}), order=True) | TraceNeeds(
        frozenset({3}), steps="last_epoch", max_bytes=2**31
    )
    expected = TraceNeeds(
        frozenset({2, 3}), order=True, steps="last_epoch", logits=False, max_bytes=2**31
    )
    assert both == expected
    assert TraceNeeds(steps="all", logits=True) | both == TraceNeeds(
        frozenset({"last", 2, 3}), order=True, steps="all", logits=True, max_bytes=2**31
    )
    recorder = recorder_for(both)
    assert needs_of(recorder) is both
    trained(small(max_epochs=7), recorder)
    assert epochs_of(recorder.trace_.checkpoints) == [2, 4, 5, 7]
    assert recorder.nbytes_ == recorder.trace_.nbytes
    # its parameters, which are all that a clone has, ask for no less
    assert recorder.get_params()["checkpoints"] == "all"
    single = recorder_for(TraceNeeds(frozenset({3, "last"}), storage="folder"))
    assert (
        single.get_params()
        == TraceRecorder(checkpoints=3, storage="folder", resume=True).get_params()
    )


@pytest.mark.parametrize(
    ("own", "needed", "enough"),
    [
        ({"checkpoints": "all"}, {"checkpoints": frozenset({2, 3})}, True),
        ({"checkpoints": 3}, {"checkpoints": frozenset({3})}, True),
        ({"checkpoints": 3}, {"checkpoints": frozenset({2})}, False),
        ({"checkpoints": 3}, {"checkpoints": frozenset({2, 3})}, False),
        ({"steps": "all"}, {"steps": "last_epoch", "order": True}, True),
        ({"steps": "last_epoch"}, {"steps": "all"}, False),
        ({"logits": True}, {"order": True}, True),
        ({"order": True}, {"logits": True}, False),
    ],
)
def test_a_recorder_is_compared_with_what_is_needed(own, needed, enough):
    assert needs_of(TraceRecorder(**own)).covers(TraceNeeds(**needed)) is enough
