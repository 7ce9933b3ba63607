"""Published benchmarks of image restoration: what is measured, how, and by which restorer."""
