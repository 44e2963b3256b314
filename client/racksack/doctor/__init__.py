"""`racksack doctor`: everything on the way of a job, in order, from this machine to the nodes."""
