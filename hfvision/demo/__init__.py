"""The Gradio app of `hfvision demo` and of the Space: classify, upscale, attack, look inside."""
