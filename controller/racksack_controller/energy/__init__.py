"""What nodes and jobs draw: the arithmetic, the sampling, the tables and the report."""
