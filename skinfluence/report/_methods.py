"""Which method judges the rows, by its name."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from skinfluence.nets import default_net
from skinfluence.outlier._outlier_gradients import OutlierGradientDetector
from skinfluence.outlier.committee._committee import BUILT_IN
from skinfluence.report._errors import AuditError

METHODS = ("committee", "forest", "net")
_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """A method by its name, where it computes, its seed, and what kind of table it is for."""

    name: str
    device: str
    seed: int
    is_numeric: bool  # the target
    is_mixed: bool  # whether columns hold words or categories

    @property
    def task(self) -> str:
        """What the targets are."""
        return "regression" if self.is_numeric else "classification"

    @property
    def has_boosted(self) -> bool:
        """Whether a boosted tree joins the committee, as it is better on mixed tables."""
        return self.name == "committee" and self.is_mixed and not self.is_numeric

    def made(self, inputs: np.ndarray, given: np.ndarray) -> Any:
        """Make the method for these rows, not fitted."""
        task = self.task
        if self.name == "net":
            net = default_net(inputs, given, random_state=self.seed, task=task)
            net.set_params(device=self.device)
            return OutlierGradientDetector(net, cv=_FOLDS, random_state=self.seed)
        members: Any = "auto" if self.name == "committee" else [self.name]
        if self.has_boosted:
            members = [*BUILT_IN, ("boosted", HistGradientBoostingClassifier())]
        return OutlierGradientDetector(committee=members, task=task, random_state=self.seed)

    @property
    def threads(self) -> AbstractContextManager[Any]:
        """Keep trees to one thread, since on busy cores those of OpenMP wait for one another."""
        return threadpool_limits(1, "openmp") if self.has_boosted else nullcontext()

    def code(self) -> tuple[list[str], list[str]]:
        """Write the lines that import and fit the same method on X and y."""
        imports, lines = ["from skinfluence import OutlierGradientDetector"], []
        if self.name == "net":
            imports.append("from skinfluence.nets import default_net")
            lines = [
                f"net = default_net(X, y, random_state={self.seed}, task={self.task!r})",
                f"net.set_params(device={self.device!r})",
            ]
            settings = f"net, cv={_FOLDS}, random_state={self.seed}"
        else:
            members = ""
            if self.has_boosted:
                imports.insert(0, "from sklearn.ensemble import HistGradientBoostingClassifier")
                names = ", ".join(f'"{name}"' for name in BUILT_IN)
                lines = [f'members = [{names}, ("boosted", HistGradientBoostingClassifier())]']
                members = "committee=members, "
            elif self.name != "committee":
                members = f"committee=[{self.name!r}], "
            settings = f"{members}task={self.task!r}, random_state={self.seed}"
        return imports, [*lines, f"method = OutlierGradientDetector({settings}).fit(X, y)"]


def check_device(method: str, device: str) -> None:
    """Refuse a device that is not there, or that the method does not use."""
    import torch

    if device == "cpu":
        return
    if method != "net":
        raise AuditError(f"--device is for --method net: --method {method} trains on the cpu.")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).split("\n", maxsplit=1)[0]
        raise AuditError(f"Device {device!r} cannot be used: {cause}") from None
