"""What nodes have, and what of it is allocated."""
