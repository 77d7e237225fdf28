"""The training loop and what it is made of; nothing here knows a task."""
