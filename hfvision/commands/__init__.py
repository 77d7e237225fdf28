"""The commands of `hfvision`: one small function each, by what they are for."""
