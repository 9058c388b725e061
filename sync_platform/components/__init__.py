"""What a project's YAML names: Source and Sync."""
