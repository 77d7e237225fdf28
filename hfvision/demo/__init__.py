"""The Gradio app of `hfvision demo` and of the Space: classify, upscale, attack, look inside."""

from .scratch import keep_uploads_private

keep_uploads_private()  # before Gradio is imported, which reads the folder's name then
