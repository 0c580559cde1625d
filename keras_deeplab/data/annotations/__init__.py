"""What annotation tools write, one file a format: shapes by image, painted into labels as samples are read."""
