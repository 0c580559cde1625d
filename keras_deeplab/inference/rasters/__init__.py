"""Images in bands of rows, and labels written so: memory follows the band, not the image.

`base` has what readers share, `reading` opens a file by what fits it, `writing` writes labels as GeoTIFF or PNG.
"""
