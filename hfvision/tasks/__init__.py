"""One folder for each task: training, evaluation, prediction, pictures."""
