"""Colours for quantities."""

from typing import Any

import numpy as np

# Mikhailov, "Turbo, an improved rainbow colormap for visualization" (2019): polynomials of degree 5, lowest power first.
_TURBO = np.array([
    [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
    [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
    [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
])  # fmt: skip


def turbo(place: Any) -> np.ndarray:
    """Numbers (height, width) from 0 (dark blue) over green to 1 (dark red) as (height, width, 3) uint8."""
    place = np.clip(np.asarray(place, dtype=np.float32), 0, 1)
    powers = np.stack([place**power for power in range(_TURBO.shape[1])], axis=-1)
    return np.clip(255 * powers @ _TURBO.T, 0, 255).astype(np.uint8)


def ink(share: Any) -> np.ndarray:
    """Numbers (height, width) from 0 (white) to 1 (black) as (height, width, 3) uint8."""
    grey = 255 * (1 - np.clip(np.asarray(share, dtype=np.float32), 0, 1))
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
