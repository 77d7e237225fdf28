"""The `hfvision` command, a module for each group of commands."""
