"""BatchPrediction: runs of a model over the rows of a dataset, once or by a schedule, each ending in one version."""
