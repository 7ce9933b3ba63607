"""A Gaussian mixture over latents: the prior that a trained one is compared with."""

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from gen_jax.common.errors import UserError


def sample_mixture(
    latents: Float[np.ndarray, "n d"],
    count: int,
    *,
    components: int = 8,
    dimensions: int = 256,
    seed: int = 0,
) -> Float[np.ndarray, "count d"]:
    """Fits a mixture with full covariances and draws from it (ex-post density estimation,
    arXiv:1903.12436).

    It is fitted to the leading principal components. What these leave out is drawn with its own
    variance, so that samples have the size of latents.

    Args:
      latents: Latents of training images.
      count: Samples to draw.
      components: Gaussians.
      dimensions: Principal components at most.
      seed: Seed of the fit and of the samples.

    Raises:
      UserError: There are fewer latents than Gaussians need.
    """
    if len(latents) < 4 * components:
        raise UserError(
            f"mixture of {components} Gaussians: {len(latents)} latents are too few, expected at "
            f"least {4 * components}; set components to less"
        )
    latents = latents.astype(np.float64)  # covariances of float32 are not quite positive
    dimensions = min(dimensions, latents.shape[1], len(latents) // 2)
    pca = PCA(dimensions, random_state=seed)
    scores = pca.fit_transform(latents)
    scale = scores.std(0) + 1e-9
    mixture = GaussianMixture(components, reg_covar=1e-2, random_state=seed, max_iter=50)
    mixture.fit(scores / scale)
    drawn, _ = mixture.sample(count)
    # Samples come sorted by their Gaussian.
    random = np.random.RandomState(seed)
    drawn = drawn[random.permutation(count)]
    residual = latents - pca.inverse_transform(scores)
    noise = random.standard_normal((count, latents.shape[1])) * residual.std(0)
    return (pca.inverse_transform(drawn * scale) + noise).astype(np.float32)
