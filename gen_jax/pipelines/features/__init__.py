"""Frozen features of whole data sets; `job.featurize` is the way in."""
