"""Golden values of our own making, for checkouts without the reference folder: files, their script, its rules."""
