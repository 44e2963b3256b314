"""Which job goes onto which node, and when."""
