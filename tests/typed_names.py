"""Read by a type checker, never run: each line with `expected` is an error."""

import hfvision
from hfvision import CNNConfig

config: CNNConfig = CNNConfig()
number: int = CNNConfig  # expected
print(hfvision.no_such_name)  # expected
hfvision.ClassifierTrainingConfig(data="photos/", out=3)  # expected
hfvision.ClassifierTrainingConfig(data="photos/", out="runs/x", epoch=3)  # expected
label: int = hfvision.classify("photo.jpg").label  # expected
labels: list[str] = [each.label for each in hfvision.classify(["photo.jpg"])]
