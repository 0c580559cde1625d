"""What a file says of itself, in the form that each kind of file has for it."""
