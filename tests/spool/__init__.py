"""The drop folder, uploads and snapshots, on a real file system."""
