"""What DeepLab puts on a dense backbone, one file a kind of head."""
