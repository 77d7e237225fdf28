"""How good a model is: each measure a plain function and an `evaluate.Metric`."""
