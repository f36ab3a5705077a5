"""How far a computation is: told to whoever listens, and shown as bars."""

import io
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.utils.parallel import delayed

from skinfluence import OutlierGradientDetector
from skinfluence.nets import _stacked, default_net
from skinfluence.rows import _progress
from skinfluence.rows._progress import (
    bars_shown,
    is_listened_to,
    listening,
    tell,
    told,
    told_results,
)
from tests._shared.problems import noisy_blobs

X, Y, _ = noisy_blobs(n=60)
ROOT = Path(__file__).resolve().parents[2]


def heard(run):
    said = []
    with listening(lambda loop, *what: said.append(what)):
        run()
    return said


def test_nobody_need_listen():
    tell(object(), "rows", 1, 2)
    assert list(told("rows", "ab")) == ["a", "b"]


def test_each_item_is_told_of():
    assert heard(lambda: list(told("rows", "ab"))) == [("rows", n, 2) for n in range(3)]


def test_items_count_for_their_size():
    parts = iter([[1, 2], [3, 4], [5]])
    said = heard(lambda: list(told("rows", parts, 5, size=len)))
    assert said == [("rows", n, 5) for n in (0, 2, 4, 5)]


def test_a_loop_that_is_left_early_is_over():
    assert heard(lambda: next(told("rows", "abc"))) == [("rows", 0, 3), ("rows", 0, 0)]


def test_who_listens_hears_no_more_after_the_block():
    said = heard(lambda: tell(1, "rows", 1, 2))
    tell(1, "rows", 2, 2)
    assert said == [("rows", 1, 2)]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_results_of_workers_come_in_order(backend):
    tasks = (delayed(abs)(-n) for n in range(4))

    def run():
        with joblib.parallel_config(backend, n_jobs=1 if backend == "loky" else 2):
            assert list(told_results("folds", tasks, 4)) == [0, 1, 2, 3]

    assert heard(run) == [("folds", n, 4) for n in range(5)]


FORKED = """
import joblib
from sklearn.utils.parallel import delayed
from skinfluence.rows._progress import listening, told_results
said = []
with joblib.parallel_config("multiprocessing", n_jobs=2):
    with listening(lambda loop, *what: said.append(what)):
        found = list(told_results("folds", (delayed(abs)(-n) for n in range(4)), 4))
assert found == [0, 1, 2, 3]
assert said == [("folds", n, 4) for n in range(5)]
"""


def test_results_of_forked_workers_come_in_order():
    # not forked from here, where threads may hold locks
    subprocess.run([sys.executable, "-c", FORKED], check=True, cwd=ROOT, timeout=120)


def test_results_are_a_list_where_nobody_listens(monkeypatch):
    asked = []
    real = _progress.Parallel
    monkeypatch.setattr(_progress, "Parallel", lambda n, **how: asked.append(how) or real(n, **how))
    with joblib.parallel_config("threading", n_jobs=2):
        assert list(told_results("folds", (delayed(abs)(-n) for n in range(4)), 4)) == [0, 1, 2, 3]
        heard(lambda: list(told_results("folds", [delayed(abs)(-1)], 1)))
    assert asked == [{"return_as": "list"}, {"return_as": "generator"}]


def test_bars_have_no_thread_and_no_lock_of_several_processes():
    before = threading.enumerate()
    bar = _progress._bar("rows", 3, 0, delay=0)
    assert threading.enumerate() == before
    assert isinstance(bar.get_lock(), type(threading.RLock()))
    bar.close()


def test_a_committee_tells_of_its_members_and_epochs_and_judges_alike(monkeypatch):
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 6)
    alone = OutlierGradientDetector(random_state=0).fit(X, Y)
    method = OutlierGradientDetector(random_state=0)
    said = heard(lambda: method.fit(X, Y))
    assert [s for s in said if s[0] == "epochs"] == [("epochs", n, 6) for n in [*range(7), 6]]
    assert [s[1] for s in said if s[0] == "members of the committee"] == [*range(6)]
    np.testing.assert_array_equal(method.detrimentality_, alone.detrimentality_)
    assert not [name for name, _ in method.net_.callbacks_ if name == "skinfluence_progress"]


@pytest.mark.parametrize("callbacks", [None, "disable"])
def test_folds_of_a_net_of_ones_own_are_told_of_and_it_stays_as_it_is(callbacks):
    net = default_net(X, Y, random_state=0).set_params(max_epochs=3, callbacks=callbacks)
    method = OutlierGradientDetector(net, cv=2, random_state=0)
    said = heard(lambda: method.fit(X, Y))
    assert [s for s in said if s[0] == "folds"] == [("folds", n, 2) for n in range(3)]
    assert [s[1:] for s in said if s[0] == "epochs"] == 2 * [(n, 3) for n in (0, 1, 2, 3, 3)]
    assert net.callbacks == callbacks
    assert [one.callbacks for one in method.net_] == [callbacks, callbacks]


class Recorded:
    """Stands for a bar of tqdm's; notes how many are open."""

    most = now = 0

    def __init__(self, what, total, done, delay):
        self.n = done
        type(self).now += 1
        type(self).most = max(self.most, self.now)

    def set_description(self, what, refresh):
        pass

    def update(self, n):
        self.n += n

    def close(self):
        type(self).now -= 1


def nest(depth):
    for _ in told(f"loop {depth}", range(2)):
        if depth:
            nest(depth - 1)


def interrupted():
    with bars_shown(wanted=True):
        for _ in told("rows", range(3)):
            for _ in told("steps", range(3)):
                assert Recorded.now == 2
                raise KeyboardInterrupt


def test_there_are_two_bars_at_most_and_none_is_left(monkeypatch):
    monkeypatch.setattr(Recorded, "now", 0)
    monkeypatch.setattr(Recorded, "most", 0)
    monkeypatch.setattr(_progress, "_bar", Recorded)
    with bars_shown(wanted=True):
        nest(4)
        assert (Recorded.most, Recorded.now) == (2, 0)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (Recorded.most, Recorded.now) == (2, 0)


def test_bars_say_what_is_done_and_go_away(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    with bars_shown(wanted=True):
        assert is_listened_to()
        for _ in told("loop 2", range(2)):
            time.sleep(0.11)  # tqdm draws ten times a second
            nest(1)
    shown = capsys.readouterr()
    assert not shown.out
    lines = [line for line in shown.err.replace("\x1b[A", "").split("\r") if line.strip()]
    assert {line.split(":")[0] for line in lines} == {"loop 2", "loop 1"}
    assert any("1/2 [00:00<00:00" in line for line in lines)  # passed, and left
    assert not shown.err.split("\r")[-1].strip()


def test_nothing_is_shown_unasked_or_twice(capsys):
    with bars_shown(wanted=False):
        nest(1)
    assert heard(lambda: nest_shown(1))
    assert capsys.readouterr() == ("", "")


def nest_shown(depth):
    with bars_shown(wanted=True):
        nest(depth)


class Torn(io.StringIO):
    """Nobody reads it any more."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stderr", [None, io.StringIO(), Torn()])
def test_where_nobody_reads_nothing_is_drawn_and_nothing_fails(monkeypatch, stderr):
    if type(stderr) is io.StringIO:
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    nest_shown(1)


def test_a_notebook_without_widgets_gets_text_and_no_warning(monkeypatch, capsys):
    shell = types.SimpleNamespace(get_ipython=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("zmqshell"))
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nest_shown(1)
    assert "loop 1: " in capsys.readouterr().err
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        sys.modules.pop(name, None)
