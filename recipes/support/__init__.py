"""What all rooms need: errors, files, tables, pictures, processes."""
