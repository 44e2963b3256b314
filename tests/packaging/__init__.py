"""What surrounds the code: installation, documents, units, and rules that hold for every file."""
