"""The verbs of the package, one for each thing that people do with models; the command line does the same.

What makes something of an image takes the image first and the model second: `classify`, `segment`, `upscale`,
`explain`, `attack`. What makes something of a model takes the model first and the data second: `evaluate`, `quantize`,
`prune`, `distill`, `push`. A training takes its settings. A model is a name, a folder, a loaded model or the result of
another verb; data is a name, a folder or a loaded data set; an image is a path, an address, bytes, PIL or an array.
"""
