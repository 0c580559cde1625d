"""Images of any size: tiles that overlap by what the model sees, and labels by rows, so that memory follows a tile.

`plan` places tiles, `placed` runs a Keras model on one as the part of the image that it is, `sources` says what gives
scores on a tile, `seams` joins them, `upsampling` makes labels of coarse scores, `tiling` does it all for an image.
`raster`, with a journal, does so for files (`segment_raster`, `verify_raster`).
"""
