"""Model cards, and pushing models and Spaces to the Hub."""
