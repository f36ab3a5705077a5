"""Errors and warnings of skinfluence, each also one of Python's or scikit-learn's own kinds."""


class AmountError(ValueError):
    """So many rows cannot go without leaving too few of a class."""


class ApproximationWarning(UserWarning):
    """There are too many rows for the exact computation, and an approximation was taken."""


class BatchLossWarning(UserWarning):
    """The net's loss of a batch is neither the mean nor the sum of its rows' losses."""


class GradientMismatchError(ValueError):
    """Per-sample gradients of the fast route disagree with one backward pass per row."""


class HeldOutRowsWarning(UserWarning):
    """The net's own `train_split` kept rows out of training, so their scores are out of sample."""


class InterruptedTrainingWarning(UserWarning):
    """The training of a frozen net was cut within an epoch, as by an interrupt."""


class LeakyFeaturesWarning(UserWarning):
    """A Pipeline trains a classifier or regressor on scores that know the labels given."""


class LeakyModuleWarning(UserWarning):
    """The net holds a module instance, whose trained weights leak into every clone of the net."""


class ManyClassesWarning(UserWarning):
    """Targets are taken for labels, but nearly every row has a class of its own."""


class PrecisionWarning(UserWarning):
    """Numbers were rounded so that rows which differ in a column hardly do any more."""


class RandomRowsWarning(UserWarning):
    """The data set gives other inputs each time a row is read, so scores are those of one draw."""


class SmallClassWarning(UserWarning):
    """A class has too few rows for a detector of its own, and is judged by that of all classes."""


class UnknownErrorsWarning(UserWarning):
    """Wrong labels cannot be told from rows that are hard to predict, so none are flagged."""


class UnverifiedRowsWarning(UserWarning):
    """Rows of which nobody knows whether they are noisy were left out."""


class VersionWarning(UserWarning):
    """An estimator was saved by another version of this package than the one that loads it."""


class ValidationOverlapWarning(UserWarning):
    """Some rows given as validation rows are training rows as well."""


class ReplayWarning(UserWarning):
    """Recorded steps of the optimiser are not the steps of SGD that a method assumes."""
