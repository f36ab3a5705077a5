"""Solvers of `InfluenceFunction`: objects with parameters, that prepare a damped inverse."""

from sklearn.base import BaseEstimator

from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.influence.solvers._inverses import (
    ConjugateGradientInverse,
    DataInfInverse,
    ExactInverse,
    IdentityInverse,
    Inverse,
)
from skinfluence.influence.solvers._kronecker import EKFACInverse
from skinfluence.influence.solvers._series import ArnoldiInverse, LiSSAInverse, largest_eigenvalue
from skinfluence.rows._parameters import (
    check_non_negative_integer,
    check_parameter,
    check_positive_integer,
    check_positive_number,
)

# Of the largest eigenvalue of the curvature; see the notes of `InfluenceFunction`.
_AUTO_DAMPING = 0.1
# The start vector of the runs that estimate it: a damping does not depend on random_state.
_SEED = 0


class Solver(BaseEstimator):
    """Base of the solvers."""

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""

    # a damping of None stands for "auto"
    def invert(self, curvature: Curvature, damping: float | None, seed: int) -> Inverse:
        """Prepare products with the inverse."""
        return self._invert(curvature, damping_of(curvature, damping), seed)

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        raise NotImplementedError


def damping_of(curvature: Curvature, damping: float | None) -> float:
    """Give the damping that is asked for, or a tenth of the largest eigenvalue."""
    if damping is not None:
        return float(damping)
    largest = largest_eigenvalue(curvature, _SEED)
    if not largest > 0:
        raise ValueError(
            f"damping='auto' is a tenth of the largest eigenvalue of the {curvature.kind} "
            f"curvature, which is {largest:g} on these rows: the loss has no curvature there, as "
            "when every row is fitted exactly. Give a damping as a number, or use Identity()."
        )
    return _AUTO_DAMPING * largest


class Exact(Solver):
    """Build the whole curvature matrix and factor it, for small nets.

    Parameters
    ----------
    max_bytes : int, default=2**30
        Refuse a larger matrix: 8 bytes for every pair of parameters.

    Notes
    -----
    Cost: for the Gauss-Newton matrix one pass of per-sample gradients for every output less one;
    for the Hessian one Hessian product for every parameter; then the cube of their number.

    Examples
    --------
    >>> from skinfluence.influence import Exact
    >>> Exact()
    Exact()
    """

    def __init__(self, *, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_positive_integer("max_bytes", self.max_bytes)

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        return ExactInverse(curvature, damping, self.max_bytes)


class ConjugateGradient(Solver):
    """Solve by conjugate gradients: exact in the limit, for any net, without a matrix.

    Parameters
    ----------
    tol : float, default=1e-5
        Residual, relative to the right-hand side, at which to stop.
    max_iter : int, default=500
        Products with the curvature at most; running out of them is a `ConvergenceWarning`.

    Notes
    -----
    Cost: for every direction, about as many passes over the training rows as the square root of
    the condition number, 20 or so at the default damping. A pass costs about four times a
    forward and backward pass.
    """

    def __init__(self, *, tol: float = 1e-5, max_iter: int = 500) -> None:
        self.tol = tol
        self.max_iter = max_iter

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_positive_number("tol", self.tol)
        check_positive_integer("max_iter", self.max_iter)

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        return ConjugateGradientInverse(curvature, damping, self.tol, self.max_iter)


class LiSSA(Solver):
    """Sum the Neumann series of the inverse on random batches.

    Parameters
    ----------
    depth : int, default=1000
        Steps of the series.
    batch_size : int, default=64
        Rows of a step, drawn with replacement.
    repeats : int, default=1
        Series of other draws to average over.
    scale : float or None, default=None
        What the curvature is divided by. The series converges when no batch exceeds twice that.
        None starts from the largest eigenvalue and doubles it when the series diverges; a number
        that is too small is an error that names one to try.

    Notes
    -----
    The damping is added to the curvature itself, whatever the scale: in published code that adds
    it after scaling, the effective damping is scale times damping. The result is the mean of the
    second half of the iterates, whose noise averages out.

    Cost: `depth` times `repeats` products with the curvature of a batch, for every direction.

    References
    ----------
    Koh, Liang. "Understanding Black-box Predictions via Influence Functions". ICML 2017, section
    3; Agarwal, Bullins, Hazan. "Second-Order Stochastic Optimization for Machine Learning in
    Linear Time". JMLR 2017.
    """

    def __init__(
        self,
        *,
        depth: int = 1000,
        batch_size: int = 64,
        repeats: int = 1,
        scale: float | None = None,
    ) -> None:
        self.depth = depth
        self.batch_size = batch_size
        self.repeats = repeats
        self.scale = scale

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_positive_integer("depth", self.depth)
        check_positive_integer("batch_size", self.batch_size)
        check_positive_integer("repeats", self.repeats)
        if self.scale is not None:
            check_positive_number("scale", self.scale)

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        return LiSSAInverse(curvature, damping, seed=seed, **self.get_params())


class Arnoldi(Solver):
    """Invert in the span of the leading eigenvectors, found in a Krylov space.

    Parameters
    ----------
    n_iterations : int, default=100
        Dimension of the Krylov space, each one a product with the curvature.
    rank : int, default=50
        Eigenvectors to keep, of the largest absolute eigenvalues.
    complement : bool, default=True
        Whether to divide what lies outside their span by the damping, as if its eigenvalues were
        zero, so that the result approaches the exact one. False drops it, as the paper does.

    Notes
    -----
    Cost: `n_iterations` passes over the training rows once; a direction then costs two products
    with a matrix of `rank` columns, so it suits many queries and ``reference="self"``. Memory:
    `n_iterations` times the number of parameters.

    References
    ----------
    Schioppa, Zablotskaia, Vilar, Sokolov. "Scaling Up Influence Functions". AAAI 2022.
    """

    def __init__(self, *, n_iterations: int = 100, rank: int = 50, complement: bool = True) -> None:
        self.n_iterations = n_iterations
        self.rank = rank
        self.complement = complement

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_positive_integer("n_iterations", self.n_iterations)
        check_positive_integer("rank", self.rank)
        check_parameter(
            "complement", self.complement, "a bool", holds=lambda v: isinstance(v, bool)
        )

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        return ArnoldiInverse(curvature, damping, seed=seed, **self.get_params())


class EKFAC(Solver):
    """Invert the Gauss-Newton matrix layer by layer in a Kronecker eigenbasis, then correct.

    Linear layers and convolutions without groups get the basis; other layers, and those that are
    not factored, the diagonal of their block. What couples layers is left out of it, and comes
    back in a few steps of conjugate gradients.

    Parameters
    ----------
    n_corrections : int, default=2
        Steps of conjugate gradients on the whole matrix, preconditioned by the blocks. 0 is the
        method of the papers.

    Notes
    -----
    Without corrections the ranking by self-influence is close to the exact one, but on small nets
    that by validation loss is not: there the coupling of the layers counts.

    Cost: two passes of per-sample gradients for every output less one, and eigenvectors of
    matrices as wide as the layers. A direction then costs four small products a layer, and one
    pass over the training rows more than it has corrections: use ``n_corrections=0`` with
    ``reference="self"`` or many queries.

    References
    ----------
    George, Laurent, Bouthillier, Ballas, Vincent. "Fast Approximate Natural Gradient Descent in a
    Kronecker Factored Eigenbasis". NeurIPS 2018; Grosse et al. "Studying Large Language Model
    Generalization with Influence Functions". 2023, section 2.3.
    """

    def __init__(self, *, n_corrections: int = 2) -> None:
        self.n_corrections = n_corrections

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_non_negative_integer("n_corrections", self.n_corrections)

    def _invert(self, curvature: Curvature, damping: float, seed: int) -> Inverse:
        _refuse_hessian(curvature, "EKFAC", "the Gauss-Newton matrix")
        return EKFACInverse(curvature, damping, self.n_corrections)


class DataInf(Solver):
    """Swap the inverse with the mean over rows, which gives a closed form for every layer.

    It approximates the mean of the outer products of the rows' gradients, the empirical Fisher
    matrix, which is neither the Hessian nor the Gauss-Newton matrix. ``damping="auto"`` is, for
    every layer, a tenth of the mean square of a gradient's entries.

    Notes
    -----
    Cost: two passes of per-sample gradients, no product with a curvature.

    References
    ----------
    Kwon, Wu, Wu, Zou. "DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and
    Diffusion Models". ICLR 2024, equation 5.
    """

    def invert(self, curvature: Curvature, damping: float | None, seed: int) -> Inverse:
        """Prepare products with the inverse; see `Solver`."""
        _refuse_hessian(curvature, "DataInf", "the products of the rows' gradients")
        return DataInfInverse(curvature.rows, damping)


class Identity(Solver):
    """Leave the curvature out: plain inner products of gradients, divided by the rows' number."""

    def invert(self, curvature: Curvature, damping: float | None, seed: int) -> Inverse:
        """Prepare products with the inverse; see `Solver`."""
        return IdentityInverse()


def _refuse_hessian(curvature: Curvature, name: str, matrix: str) -> None:
    if curvature.kind == "hessian":
        raise ValueError(
            f"{name}() inverts {matrix}, not the Hessian. Use curvature='ggn' with it, or "
            "ConjugateGradient(), LiSSA(), Arnoldi() or Exact() for curvature='hessian'."
        )
