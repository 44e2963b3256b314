"""Text to checked values, and back."""
