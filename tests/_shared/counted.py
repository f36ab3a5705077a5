"""Nets that count how often they are trained, in other processes too."""

from pathlib import Path

from skorch.callbacks import Callback

from tests._shared.problems import classifier


class CountTrainings(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        with Path(self.path).open("a") as file:
            file.write("x")


def counted(tmp_path, make=classifier, **kwargs):
    return make(max_epochs=6, callbacks=[CountTrainings(str(tmp_path / "count"))], **kwargs)


def n_trainings(tmp_path):
    path = tmp_path / "count"
    return len(path.read_text()) if path.exists() else 0
