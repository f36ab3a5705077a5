"""Random projections of gradients, the same on every machine and for every split into batches.

A projection maps a gradient of any length to `n_components` numbers whose inner products are
unbiased, with an error that falls as ``1 / sqrt(n_components)`` (Johnson and Lindenstrauss). Every
entry is a random sign (Achlioptas 2003). For a weight matrix the signs of component c form an
outer product ``p_c q_c^T``, so that the projection of a gradient ``b a^T`` is
``(p_c . b) (q_c . a)``: two thin products, and the gradient itself is never built. Each component
has factors of its own; a Kronecker product of two small projections would converge only as
``n_components ** -0.25``.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# Signs of one block of columns come from one generator, so that blocks can be made on their own.
_BLOCK_COLUMNS = 1024
# Signs of a layer are kept between batches up to this size, beyond it they are drawn again.
_CACHE_BYTES = 2**28


@dataclass(frozen=True)
class LayerProjection:
    """The random signs of one layer."""

    n_components: int
    seed: int
    layer: int  # the layer's place among the chosen ones; each has signs of its own

    def signs(self, part: int, n_columns: int, like: Tensor) -> Tensor:
        """Draw 1 and -1 for a part (outputs, inputs, bias): (n_columns, n_components)."""
        kept = self._kept
        if part in kept and len(kept[part]) == n_columns:
            return kept[part].to(like)
        blocks = [
            self._block(part, start, min(_BLOCK_COLUMNS, n_columns - start))
            for start in range(0, n_columns, _BLOCK_COLUMNS)
        ]
        signs = torch.cat(blocks)
        if signs.numel() <= _CACHE_BYTES:
            kept[part] = signs
        return signs.to(like)

    def project_dense(self, values: Tensor) -> Tensor:
        """Project a matrix (n_rows, n_parameters), not yet divided by ``sqrt(n_components)``."""
        if values.shape[1] * self.n_components <= _CACHE_BYTES:
            return values @ self.signs(0, values.shape[1], values)
        total = values.new_zeros(len(values), self.n_components)
        for start in range(0, values.shape[1], _BLOCK_COLUMNS):
            columns = values[:, start : start + _BLOCK_COLUMNS]
            total += columns @ self._block(0, start, columns.shape[1]).to(values)
        return total

    @cached_property
    def _kept(self) -> dict[int, Tensor]:
        return {}

    def _block(self, part: int, start: int, n_columns: int) -> Tensor:
        # raw bits, because numpy promises these (and not its distributions) for every version
        entropy = [self.seed, self.layer, part, start // _BLOCK_COLUMNS]
        generator = np.random.PCG64(np.random.SeedSequence(entropy))
        n_signs = n_columns * self.n_components
        words = generator.random_raw(-(-n_signs // 64)).astype("<u8")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:n_signs]
        signs = bits.astype(np.int8) * 2 - 1
        return torch.from_numpy(signs.reshape(n_columns, self.n_components))


@dataclass(frozen=True)
class Projection:
    """A seeded random projection of whole gradients.

    Parameters
    ----------
    n_components : int
        Length of a projected gradient.
    seed : int
        The same seed gives the same map everywhere.

    Examples
    --------
    >>> import torch
    >>> from skinfluence.gradients import Projection
    >>> projection = Projection(n_components=2048, seed=0)
    >>> g = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    >>> projected = projection.of_layer(0).project_dense(g) / 2048**0.5
    >>> bool((projected @ projected.T - g @ g.T).abs().max() < 0.1 * (g @ g.T).max())
    True
    """

    n_components: int
    seed: int

    def of_layer(self, layer: int) -> LayerProjection:
        """Give the part of the projection that belongs to one layer.

        Parameters
        ----------
        layer : int

        Returns
        -------
        LayerProjection
        """
        if layer not in self._layers:
            self._layers[layer] = LayerProjection(self.n_components, self.seed, layer)
        return self._layers[layer]

    @cached_property
    def _layers(self) -> dict[int, LayerProjection]:
        return {}
