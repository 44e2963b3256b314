"""What a project's venv is made of: reading the files in which projects list their packages."""
