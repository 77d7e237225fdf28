"""Looking inside a network: layers, receptive fields, graphs, heat maps."""
