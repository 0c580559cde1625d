"""How much is taken from outside at most: pixels, bytes, entries, seconds. What goes beyond is refused, by its header.

What is read was written by others, and a few bytes can ask for all memory or for ever. Each limit is far above what
real files need; whoever needs another one finds its number here alone. Use them as `limits.NAME`, when they are needed.
"""

# Images -----------------------------------------------------------------------------------------------------------

# Pixels of an image that is put to a model whole, unless it is said otherwise: a camera's 24 million pass. A model
# needs some 300 bytes a pixel, so a larger one may take a machine's memory.
MAX_PIXELS = 1 << 25
# Of an image that a predictor of a Keras model puts to it in one piece, at some gigabyte; larger ones by tiles, where
# their labels are the same.
ONE_PIECE_PIXELS = 1 << 22
# Of an image by tiles, from a file that can't be read in bands and so is decoded as a whole: 3 bytes a pixel, 400 MB.
DECODED_PIXELS = 1 << 27
# Of a call of a SavedModel. 4096x4096: the photographs of most phones. The logits of 21 classes then take 1.4 GB.
SERVED_PIXELS = 1 << 24
# Of any image that is decoded at all, as OpenCV has it.
IMAGE_PIXELS = 1 << 30
# Of the largest file of so many pixels: bytes for a number of one of its channels, and what stands before them.
NUMBER_BYTES, HEADER_BYTES = 8, 1 << 24
# Segments of a JPEG file before its picture, more than any real one has: a file of nothing but fill bytes must not
# keep a server busy.
JPEG_SEGMENTS = 5000
# Directories of a TIFF file, which may be linked in a circle.
TIFF_PAGES = 4096
# Bytes that a compressed variable of a MATLAB file may unpack to.
MATLAB_BYTES = 1 << 28

# Folders of a data set, and how often one may be reached once more, by links: two of these make a maze without end.
REPEATED_FOLDERS = 50_000

# Records ----------------------------------------------------------------------------------------------------------

# Bytes of an entry of an exported file's record, unpacked, or of a JSON file that describes a network: a record of 256
# classes takes less than 100 kB.
RECORD_BYTES = 16 << 20

# Weights ----------------------------------------------------------------------------------------------------------

# A file of n bytes may become at most `EXPANSION` times n bytes of arrays, and `SMALL` more. Weights hardly compress,
# and an array is widened 4 times at most (int8 to float32); what goes beyond was made to exhaust the memory.
EXPANSION = 16
SMALL = 1 << 20
# Bytes of a network's configuration in a file of Keras, and layers in it; a DeepLab's takes some 300 KB for 200 layers,
# the largest networks have a thousand.
CONFIG_BYTES = 1 << 24
LAYERS = 5000
# Bytes that a header of an archive, such as the name of a member, may have `tarfile` read at once.
TAR_HEADER_BYTES = 1 << 20
# Of the process that reads an HDF5 file, beside what the file may become.
HDF5_MEMORY = 2 << 30
# Seconds of computing for a small HDF5 file, and how many times as long it may take in all, on a slow disk.
HDF5_SECONDS, HDF5_WAIT = 5, 20
# Operations of a pickle. A state dict takes some 40 a tensor; one can make an object of some hundred bytes.
PICKLE_OPERATIONS = 1_000_000
PICKLE_INTEGER_BYTES = 64
ARRAY_AXES = 128
# Fields of a frozen graph or an index of TensorFlow; a DeepLab's graph has some 50,000.
GRAPH_FIELDS = 1_000_000
# Tensors of a TensorFlow checkpoint.
BUNDLE_ROWS = 1_000_000
# Values in the tables of a TFLite file; a DeepLab's has some 20,000.
TFLITE_VALUES = 1_000_000
# Files of a folder and its subfolders among which a TensorFlow 1 checkpoint is looked for.
CHECKPOINT_FILES = 10_000
# Parts of a prefix that all names of a checkpoint share.
PREFIX_PARTS = 4

# Servers and streams ----------------------------------------------------------------------------------------------

# Seconds for a call of a server, with all attempts; bytes of a request and of a reply; seconds between two attempts.
CALL_SECONDS = 30.0
MESSAGE_BYTES = 64 << 20
RETRY_SECONDS = 5.0
# Connections that are kept open; more threads than that open and close theirs.
CONNECTIONS = 64
# Seconds for a video stream to open, and for its next frame.
STREAM_SECONDS = 10.0
# Seconds for npm to bring the page's packages.
NPM_SECONDS = 600


def file_bytes(pixels: int, channels: int) -> int:
    """Of how many bytes a file with so many pixels may be."""
    return pixels * channels * NUMBER_BYTES + HEADER_BYTES
