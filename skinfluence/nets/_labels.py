"""The classes of a classifier: what the user calls them, and what the net does."""

from dataclasses import dataclass

import numpy as np

from skinfluence.gradients._skorch import Net, kind_of
from skinfluence.rows._targets import check_class_labels, classes_and_codes

# Where a fitted net that has no parameter for them keeps the user's names of its classes.
_CLASS_NAMES = "skinfluence_classes_"


@dataclass(frozen=True)
class Labels:
    """The classes of a classifier, and how labels become codes and codes labels."""

    classes: np.ndarray  # what the user calls them
    codes: np.ndarray  # what the net calls them: the index of an output, or 0 and 1

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Turn labels into codes: (n_samples,)."""
        code_of = dict(zip(self.classes.tolist(), self.codes.tolist(), strict=True))
        present, position = classes_and_codes(labels)
        unknown = [label for label in present.tolist() if label not in code_of]
        if unknown:
            raise ValueError(
                f"y holds labels the net was never trained on: {_listed(unknown)}. It knows "
                f"{_listed(self.classes.tolist())}. Encode y as in training, or train on all "
                "classes."
            )
        codes: np.ndarray = np.array([code_of[label] for label in present.tolist()])[position]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Turn codes back into labels: (n_samples,)."""
        place_of = {code: i for i, code in enumerate(self.codes.tolist())}
        present, position = classes_and_codes(codes)
        unknown = [code for code in present.tolist() if code not in place_of]
        if unknown:
            raise ValueError(
                f"The net predicts the classes {_listed(unknown)}, but the labels it was trained "
                f"on are {_listed(self.codes.tolist())} to it: it has an output that no label "
                "belongs to. Make the module's number of outputs the number of classes."
            )
        places = np.array([place_of[code] for code in present.tolist()], dtype=np.intp)
        labels: np.ndarray = self.classes[places[position]]
        return labels


def _listed(labels: list[object]) -> str:
    """List some labels, and how many there are."""
    shown = str(labels[:10])
    return shown if len(labels) <= 10 else f"{shown[:-1]}, ...] ({len(labels)} in all)"


def class_labels(y: np.ndarray) -> Labels:
    """Find the classes of targets, in sorted order; at least two."""
    classes, _ = classes_and_codes(check_class_labels(y))
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class, {classes.tolist()[0]!r}; a classifier needs at least two. "
            "Check how the rows were selected."
        )
    return Labels(classes, np.arange(len(classes)))


def labels_in(net: Net, y: np.ndarray | None) -> Labels | None:
    """Read the classes off the targets of a net still to be trained."""
    kind = kind_of(net)
    if y is None or kind not in {"classes", "binary"}:
        return None
    labels = class_labels(y)
    if kind == "binary" and len(labels.classes) > 2:
        raise ValueError(
            f"{type(net).__name__} tells two classes apart, but y holds {len(labels.classes)}: "
            f"{labels.classes.tolist()[:5]}. Use NeuralNetClassifier with one output a class."
        )
    named = getattr(net, "classes", None)
    if kind == "classes" and named is not None:  # the order that class weights follow
        return Labels(np.asarray(named), np.arange(len(named)))
    return labels


def names_no_classes(net: Net) -> bool:
    """Tell whether an unfitted net could have its classes named, and has not."""
    return kind_of(net) == "classes" and getattr(net, "classes", None) is None


def name_classes(net: Net, labels: Labels) -> None:
    """Leave the user's names of the classes with a fitted net, for `labels_of_fitted`."""
    if kind_of(net) == "binary" and len(labels.classes) == 2:
        vars(net)[_CLASS_NAMES] = labels.classes


def labels_of_fitted(net: Net) -> Labels | None:
    """Read the classes off a fitted net."""
    kind = kind_of(net)
    if kind == "binary":
        return Labels(vars(net).get(_CLASS_NAMES, np.arange(2)), np.arange(2))
    if kind != "classes":
        return None
    named = getattr(net, "classes", None)
    if named is not None:
        return Labels(np.asarray(named), np.arange(len(named)))
    # skorch does not encode: without names, a class is the index of its output
    seen = getattr(net, "classes_inferred_", None)
    return None if seen is None else Labels(np.asarray(seen), np.asarray(seen))
