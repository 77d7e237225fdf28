"""The sample photographs below the controls of a tab, each with its result."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..data.datasets.samples import sample_photos


def add_examples(
    function: Callable[..., Any], inputs: Sequence[Any], values: Sequence[Any], outputs: Sequence[Any]
) -> None:
    """Draw them; a click fills the controls and shows the result, which is computed once for all visitors.

    Args:
        function: of the inputs, gives the outputs.
        inputs: components; the first takes the photograph.
        values: of the other inputs; with None among them there is no model, and a click only fills in the photograph.
        outputs: components.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Gradio prints where it keeps the results
        gr.Examples(
            [[str(path), *values] for path in sample_photos().values()],
            list(inputs),
            list(outputs),
            function,
            cache_examples=None not in values,
            cache_mode="lazy",
            visible_columns=[0],
            label="Examples",
            api_visibility="private",
        )
