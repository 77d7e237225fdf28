"""The names of the model presets, without an import of the families, whose configurations have the fields."""

CNN = ("textbook", "tiny", "cifar", "resnet18", "resnet50", "unet")
VIT = ("tiny", "small", "base", "cifar")
SRGAN = ("srresnet", "fast-tiny", "fast-light", "fast-quality", "photo")
