"""What all rooms need: errors, progress, printing, processes, files."""
