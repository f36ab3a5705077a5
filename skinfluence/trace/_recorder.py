"""The recorder of what training leaves behind: checkpoints, order, states before steps, logits."""

from pathlib import Path
from typing import Any, Self

from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import get_len

from skinfluence.gradients._skorch import check_is_not_lazy
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.trace._epochs import EpochsTold
from skinfluence.trace._needs import TraceNeeds, check_checkpoints
from skinfluence.trace._recording import Recording, Reloaded, ends_at, learning_rates_of
from skinfluence.trace._training_trace import (
    TrainingTrace,
    fingerprint_of,
    target_fingerprint_of,
)
from skinfluence.trace.folder._resume_point import ResumePoint, training_identity


class TraceRecorder(Callback):
    """Record a net's training, for methods that trace influence through it.

    A skorch callback. Training itself stays as it is, bit for bit: the recorder reads parameters,
    the order in which the net's own loader draws rows, and the outputs that training computes
    anyway. Methods of this package add the recorder they need themselves; add one to a net that
    you train, and hand the fitted net over in scikit-learn's `FrozenEstimator`: the trace comes
    with it.

    Parameters
    ----------
    checkpoints : "last", "all" or int, default="last"
        Epochs after which to keep parameters and buffers: the last, every one, or k that are
        evenly spaced over `max_epochs`. The end of training is always kept.
    order : bool, default=False
        Note the rows of every batch.
    steps : "all", "last_epoch" or None, default=None
        Keep the parameters before every step, or before those of the last epoch. Implies the
        order.
    logits : bool, default=False
        Keep what the module returned for every row in every epoch: in training mode, before the
        step. Implies the order.
    storage : "memory" or path, default="memory"
        A folder keeps states on disk, written while training goes on; it keeps its old trace
        until training is over. A method that splits rows makes one for each part, with its number
        appended.
    resume : bool, default=False
        Leave in the folder, after every epoch, what training goes on from, and go on from what is
        there: the same `fit` after a kill, an error or an interrupt trains only the epochs that
        are missing; see Notes.
    max_bytes : int, default=2**30
        Refuse, before the first step, to keep more than that in memory. A folder has no limit.

    Attributes
    ----------
    trace_ : TrainingTrace
        There once training has ended, also by an interrupt from the keyboard. `partial_fit`
        continues it from the parameters it ends with; from any others, and with `fit`, another
        one starts.
    nbytes_ : int
        Bytes the trace will take, known before the first step.

    Raises
    ------
    TypeError
        If the order is asked for of a loader that is no DataLoader over rows with numbers.
    ValueError
        If a parameter is out of range, the trace would exceed `max_bytes`, or `partial_fit`
        continues a recorded order on other rows or with another optimiser. With `resume`, if the
        folder holds another training, or a trace that was written without; if the net has trained
        already; or if it has another recorder. With a folder, if a tensor changes its shape or
        dtype while the net trains, or another recorder of the net has the same folder.
    RuntimeError
        If another training is in progress in the folder, with `resume`.
    OSError
        If the folder's disk is full or the folder it lies in is missing. With `resume`, all
        complete epochs are kept.

    See Also
    --------
    TrainingTrace : What is recorded.

    Notes
    -----
    A resumed training ends as an uninterrupted one would, bit for bit on the CPU:
    parameters, trace and history (but for durations). Kept for that are modules, criterion,
    optimiser and history, the global random numbers, generators of the training loader and its
    samplers, and what skorch's learning rate schedulers, scores and EarlyStopping carry from epoch
    to epoch. Other callbacks begin anew, as in `partial_fit`, and so do other stateful samplers and
    workers that outlive an epoch. A training is known by its net, callbacks, rows, targets,
    parameters at the start, global random numbers if it draws them, and versions of this package
    and of what it trains with. Classes and functions count by their code, with the functions,
    classes and constants of its module that it names, and by the source of every file of yours that
    they import; objects that change while training count as changed, such as a data set that caches
    rows: pass a fresh one. Any other training is refused, and nothing is overwritten. An interrupt
    from the keyboard leaves a trace up to it, and the next `fit` replaces that trace. EarlyStopping
    is such an interrupt: `fit` repeats the epoch that it stopped at. A complete training is loaded,
    and no epoch trained.

    While such a training is in progress, ``resume.lock`` lies in the folder and keeps other
    trainings out. One that a kill left behind locks nothing and may be removed. Going on after an
    interrupt copies the states so far, for the trace that it left may be in use.

    Cost: copies of the parameters; with the order, two further gradients of one batch in epochs 1,
    2, 4, 8 and so on, for `TrainingTrace.replay_error_`; with `resume`, one write of parameters and
    optimiser state an epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skinfluence import GradientEmbedding, TraceRecorder
    >>> from skinfluence.nets import default_net
    >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> y = (X[:, 0] > 0).astype("int64")
    >>> recorder = TraceRecorder(checkpoints=4)
    >>> net = default_net(X, y, random_state=0)
    >>> net = net.set_params(callbacks=[recorder], max_epochs=8).fit(X, y)
    >>> [checkpoint.epoch for checkpoint in recorder.trace_.checkpoints]
    [2, 4, 6, 8]
    >>> method = GradientEmbedding(FrozenEstimator(net), checkpoints=4).fit(X, y)
    >>> method.trace_ is recorder.trace_
    True
    """

    # Set by `recorder_for`; methods together may need several numbers of checkpoints, which no
    # parameter says. Named so that skorch does not take it for a parameter.
    needs_: TraceNeeds | None = None

    def __init__(
        self,
        *,
        checkpoints: int | str = "last",
        order: bool = False,
        steps: str | None = None,
        logits: bool = False,
        storage: str | Path = "memory",
        resume: bool = False,
        max_bytes: int = 2**30,
    ) -> None:
        self.checkpoints = checkpoints
        self.order = order
        self.steps = steps
        self.logits = logits
        self.storage = storage
        self.resume = resume
        self.max_bytes = max_bytes

    def initialize(self) -> Self:
        """Forget the trace of an earlier training; called by skorch."""
        for name in ("trace_", "recording_"):
            if hasattr(self, name):
                delattr(self, name)
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take the initial state and get ready for the training loader; called by skorch."""
        needs = needs_of(self)
        _check_alone(self, net)
        check_is_not_lazy(net)
        # what the net would refuse a moment later, before anything is set on it
        n_samples = get_len(net.get_dataset(X, y))
        earlier: TrainingTrace | None = getattr(self, "trace_", None)
        if earlier is not None and not ends_at(earlier, net):
            earlier = None  # what lies between was not recorded
        if self.resume:
            _check_resumable(self, net)
        self.nbytes_ = needs.nbytes(net, X, y, n_samples)
        if earlier is not None:
            self.nbytes_ += earlier.nbytes
        needs.check_memory(self.nbytes_)
        resume = None
        if self.resume:
            watching = TraceRecorder | _Last | EpochsTold
            callbacks = [c for c in net.callbacks_ if not isinstance(c[1], watching)]
            identity = training_identity(net, callbacks, needs.settings(), X, y)
            resume = ResumePoint(Path(self.storage), identity)
        if resume is not None and resume.is_complete:
            self.recording_: Any = Reloaded(resume)
        else:
            fingerprints = {
                "fingerprint": fingerprint_of(X),
                "target_fingerprint": target_fingerprint_of(y),
            }
            self.recording_ = Recording(needs, net, n_samples, fingerprints, earlier, resume=resume)
        # skorch tells callbacks one by one off this very list
        net.callbacks_.append(("trace_recorder_last", _Last(self)))

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Mark the epoch's first step; called by skorch."""
        self.recording_.begin_epoch()

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Keep what the step starts from; called by skorch."""
        if training:
            self.recording_.begin_step(net)

    def on_grad_computed(
        self, net: Any, named_parameters: Any, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Read the learning rates the step will use; called by skorch."""
        if training:
            self.recording_.learning_rate = learning_rates_of(net)

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Note the rows and outputs of the step; called by skorch."""
        if training:
            self.recording_.end_step(net, batch, kwargs.get("y_pred"))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Keep a checkpoint if its turn has come; called by skorch."""
        self.recording_.end_epoch(net)

    def _finish(self, net: NeuralNet) -> None:
        recording = self.recording_
        del self.recording_
        try:
            self.trace_ = recording.finish(net, _gradient_callbacks(net))
        except BaseException:
            recording.abandon()
            raise
        recording.release()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "recording_"}


class _Last(Callback):
    """Acts for a recorder when training begins and ends, after all other callbacks."""

    # Only then is nothing left that could raise before training, and that could put other
    # parameters into the net after it, as early stopping does.

    def __init__(self, recorder: TraceRecorder) -> None:
        self.recorder = recorder
        self._recording = recorder.recording_

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        """Get ready for the training loader; called by skorch."""
        if self._is_of_this_training():
            self._recording.attach(net, lambda: self._abandon(net))
        else:  # left behind by a callback that raised
            self._leave(net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: object) -> None:
        """Let training go on from here, if it is to be resumable; called by skorch."""
        if self._is_of_this_training():
            self._recording.save(net)

    def on_train_end(self, net: NeuralNet, **kwargs: object) -> None:
        """Complete the trace; called by skorch, also after an interrupt from the keyboard."""
        self._leave(net)
        if self._is_of_this_training():
            self.recorder._finish(net)

    def _abandon(self, net: NeuralNet) -> None:
        self._recording.abandon()
        if self._is_of_this_training():
            del self.recorder.recording_
        self._leave(net)

    def _leave(self, net: NeuralNet) -> None:
        # a new list: the old one is being gone through
        net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not self]

    def _is_of_this_training(self) -> bool:
        recording = getattr(self.recorder, "recording_", None)
        return recording is not None and recording is self._recording

    def __getstate__(self) -> dict[str, object]:
        return {"recorder": self.recorder, "_recording": None}


def recorder_for(needs: TraceNeeds) -> TraceRecorder:
    """Make the recorder of what methods need; a folder is gone on with."""
    resume = needs.storage != "memory"
    recorder = TraceRecorder(
        **needs.settings(), storage=needs.storage, resume=resume, max_bytes=needs.max_bytes
    )
    recorder.needs_ = needs
    return recorder


def needs_of(recorder: TraceRecorder) -> TraceNeeds:
    """Say what a recorder will record, or refuse settings that are out of range."""
    if recorder.needs_ is not None:
        return recorder.needs_
    check_checkpoints(recorder.checkpoints)
    check_parameter(
        "steps",
        recorder.steps,
        '"all", "last_epoch" or None',
        holds=lambda steps: steps in {"all", "last_epoch", None},
    )
    check_parameter(
        "resume",
        recorder.resume,
        "True or False, and True only with a folder as storage",
        holds=lambda resume: resume is False or (resume is True and recorder.storage != "memory"),
    )
    check_positive_integer("max_bytes", recorder.max_bytes)
    return TraceNeeds(
        frozenset({recorder.checkpoints}),
        order=bool(recorder.order),
        steps=recorder.steps,
        logits=bool(recorder.logits),
        storage=recorder.storage,
        max_bytes=recorder.max_bytes,
    )


def _check_alone(recorder: TraceRecorder, net: NeuralNet) -> None:
    if recorder.storage == "memory":
        return
    others = [c for _, c in net.callbacks_ if isinstance(c, TraceRecorder) and c is not recorder]
    folders = [Path(other.storage).resolve() for other in others if other.storage != "memory"]
    if Path(recorder.storage).resolve() in folders:
        raise ValueError(
            f"Two recorders of the net have storage={str(recorder.storage)!r}, and a folder holds "
            "one trace: that of the first would be lost. Give each a folder of its own, or let "
            "one recorder ask for all of it."
        )


def _check_resumable(recorder: TraceRecorder, net: NeuralNet) -> None:
    if net.history:
        raise ValueError(
            f"The net has trained {len(net.history)} epochs already, but resume=True is for "
            "trainings from the start: fit again to go on after an interruption. To add epochs "
            "to a trained net by partial_fit or warm_start, record with resume=False."
        )
    others = [c for _, c in net.callbacks_ if isinstance(c, TraceRecorder) and c is not recorder]
    if others:
        raise ValueError(
            f"The net has {len(others)} other recorders besides one with resume=True; they would "
            "miss the epochs that need not be trained again. Let one recorder ask for all of it."
        )


def _gradient_callbacks(net: NeuralNet) -> tuple[str, ...]:
    return tuple(
        type(callback).__name__
        for _, callback in net.callbacks_
        if not isinstance(callback, TraceRecorder | _Last)
        and type(callback).on_grad_computed is not Callback.on_grad_computed
    )
