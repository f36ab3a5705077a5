"""How far a computation is, told to whoever listens."""

import numpy as np
import pytest

from skinfluence import OutlierGradientDetector
from skinfluence.nets import _stacked, default_net
from skinfluence.rows._progress import listening, tell, told
from tests._shared.problems import noisy_blobs

X, Y, _ = noisy_blobs(n=60)


def heard(run):
    said = []
    with listening(lambda *what: said.append(what)):
        run()
    return said


def test_nobody_need_listen():
    tell("rows", 1, 2)
    assert list(told("rows", "ab")) == ["a", "b"]


def test_each_item_is_told_of():
    assert heard(lambda: list(told("rows", "ab"))) == [("rows", n, 2) for n in range(3)]


def test_who_listens_hears_no_more_after_the_block():
    said = heard(lambda: tell("rows", 1, 2))
    tell("rows", 2, 2)
    assert said == [("rows", 1, 2)]


def test_a_committee_tells_of_its_members_and_epochs_and_judges_alike(monkeypatch):
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 6)
    alone = OutlierGradientDetector(random_state=0).fit(X, Y)
    method = OutlierGradientDetector(random_state=0)
    said = heard(lambda: method.fit(X, Y))
    assert [s for s in said if s[0] == "epochs"] == [("epochs", n, 6) for n in range(1, 7)]
    assert [s[1] for s in said if s[0] == "members of the committee"] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(method.detrimentality_, alone.detrimentality_)
    assert not [name for name, _ in method.net_.callbacks_ if name == "skinfluence_progress"]


@pytest.mark.parametrize("callbacks", [None, "disable"])
def test_folds_of_a_net_of_ones_own_are_told_of_and_it_stays_as_it_is(callbacks):
    net = default_net(X, Y, random_state=0).set_params(max_epochs=3, callbacks=callbacks)
    method = OutlierGradientDetector(net, cv=2, random_state=0)
    said = heard(lambda: method.fit(X, Y))
    assert [s for s in said if s[0] == "folds"] == [("folds", n, 2) for n in range(3)]
    assert [s[1:] for s in said if s[0] == "epochs"] == 2 * [(1, 3), (2, 3), (3, 3)]
    assert net.callbacks == callbacks
    assert [one.callbacks for one in method.net_] == [callbacks, callbacks]
