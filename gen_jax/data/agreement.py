"""Do two annotators say the same, beyond what chance would give?"""

import numpy as np
from jaxtyping import Shaped


def cohen_kappa(first: Shaped[np.ndarray, "n"], second: Shaped[np.ndarray, "n"]) -> float:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960).

    Args:
      first: what one said of each item.
      second: what the other said.

    Returns:
      1 for the same everywhere, 0 for as often as by chance; 1 where both always say one thing.
    """
    values = np.unique(np.concatenate([first, second]))
    agreed = np.mean(first == second)
    chance = sum(np.mean(first == v) * np.mean(second == v) for v in values)
    return float((agreed - chance) / (1.0 - chance)) if chance < 1.0 else 1.0
