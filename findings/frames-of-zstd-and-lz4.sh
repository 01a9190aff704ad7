#!/bin/sh
# Files of several frames of zstd or lz4, as cat and parallel compressors (pzstd) write them, in Python.
# Seen with zstandard 0.25.0 and lz4 4.4.5.
#
# The guess: all interfaces of a module read such a file alike, to its end, as gzip, bz2, lzma and `zstd -dc` do.
# The behaviour: zstandard.open, stream_reader and copy_stream read all frames. read_to_iter and decompressobj end after
# the first one, without an error. So does lz4.frame.decompress, where lz4.frame.open reads all. The rest is missing.
set -eu
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
python3 -m venv "$temporary/venv"
"$temporary/venv/bin/pip" --quiet --disable-pip-version-check install zstandard==0.25.0 lz4==4.4.5
cd "$temporary"
venv/bin/python - <<'PYTHON' | tee "$temporary/seen"
import io

import lz4.frame
import zstandard

frames = {"zstd": zstandard.ZstdCompressor().compress, "lz4": lz4.frame.compress}
for name, compress in frames.items():
    with open(f"two.{name}", "wb") as file:
        file.write(compress(b"first ") + compress(b"second"))
both = open("two.zstd", "rb").read()
decompressor = zstandard.ZstdDecompressor()


def copied():
    content = io.BytesIO()
    decompressor.copy_stream(io.BytesIO(both), content)
    return content.getvalue()


for interface, content in [
    ("zstandard.open", zstandard.open("two.zstd").read()),
    ("zstandard stream_reader", decompressor.stream_reader(io.BytesIO(both)).read()),
    ("zstandard copy_stream", copied()),
    ("zstandard read_to_iter", b"".join(decompressor.read_to_iter(io.BytesIO(both)))),
    ("zstandard decompressobj", decompressor.decompressobj().decompress(both)),
    ("lz4.frame.open", lz4.frame.open("two.lz4").read()),
    ("lz4.frame.decompress", lz4.frame.decompress(open("two.lz4", "rb").read())),
]:
    print(f"{interface}: {content.decode().strip()}")
PYTHON
diff - "$temporary/seen" <<'EXPECTED'
zstandard.open: first second
zstandard stream_reader: first second
zstandard copy_stream: first second
zstandard read_to_iter: first
zstandard decompressobj: first
lz4.frame.open: first second
lz4.frame.decompress: first
EXPECTED
