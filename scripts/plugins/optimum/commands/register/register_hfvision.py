"""Found and run by optimum-cli as it starts: `optimum-cli export openvino` knows hfvision's model families."""

import sys

if sys.argv[1:3] == ["export", "openvino"]:
    import hfvision  # noqa: F401
