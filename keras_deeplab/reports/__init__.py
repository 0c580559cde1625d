"""Pages and pictures that people look at: what a data set holds, and how a run went."""
