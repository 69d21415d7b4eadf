"""What a TFLite file says of itself: the order of its outputs, normalisation and class names.

The layout is that of metadata_schema.fbs (identifier M001) of TensorFlow Lite Support, read field
by field: no package of today brings generated code for it.
"""

import dataclasses
import io
import lzma
import struct
import zipfile
import zlib

import numpy as np

from kd_tf import documents
from kd_tf.errors import UserError

_BUFFER_NAME, _IDENTIFIER = b"TFLITE_METADATA", b"M001"
_MAX_LABEL_BYTES = 4 << 20
# Numbers of the fields in metadata_schema.fbs.
_SUBGRAPHS, _INPUTS, _OUTPUTS, _TENSOR_NAME, _PROCESS_UNITS = 3, 2, 3, 0, 4
_OPTIONS_TYPE, _OPTIONS, _MEAN, _STD = 0, 1, 0, 1
_NORMALIZATION = 1
# What damaged or encrypted zip archives raise.
_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, NotImplementedError,
    RuntimeError, OSError, EOFError, ValueError, struct.error,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TFLiteMetadata:
    """What the metadata say; empty where they are silent.

    Attributes:
        mean: Per channel or one for all, subtracted from 0..255.
        std: As many; what is left is divided by it.
        output_names: In the order of the outputs, such as "location", "category", "score".
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    output_names: tuple[str, ...] = ()


def read_metadata(content: bytes, *, path: str) -> TFLiteMetadata:
    """Reads the metadata inside a TFLite file.

    Raises:
        UserError: They are damaged, or normalise by 0 or by another number of channels.
    """
    from ai_edge_litert.schema_py_generated import Model
    from flatbuffers.table import Table

    try:
        buffer = _metadata_buffer(Model.GetRootAs(content))
        if buffer is None:
            return TFLiteMetadata()
        table = Table(buffer, struct.unpack_from("<I", buffer)[0])
        graph = next(iter(_tables(table, _SUBGRAPHS)), None)
        if graph is None:
            return TFLiteMetadata()
        mean, std = _normalization(graph)
        names = tuple(_text(output, _TENSOR_NAME) for output in _tables(graph, _OUTPUTS))
    except (struct.error, ValueError, TypeError, IndexError, OverflowError) as error:
        raise UserError(f"{path!r} holds damaged metadata: {error}") from error
    numbers = np.array([*mean, *std])
    if len(mean) != len(std) or len(mean) not in (0, 1, 3) or not np.isfinite(numbers).all():
        raise UserError(f"{path!r}: the metadata give mean {mean} and std {std} for 3 channels.")
    if 0.0 in std:
        raise UserError(f"{path!r}: the metadata divide by a std of 0.")
    return TFLiteMetadata(mean, std, names)


def read_label_list(content: bytes, *, path: str) -> str:
    """Text of the label list that is zipped behind a TFLite file; empty where there is none.

    Raises:
        UserError: The zip archive or the list in it is damaged, or the list is too large.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return ""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as attached:
            lists = [one for one in attached.infolist() if one.filename.endswith(".txt")]
            labels = [one for one in lists if "label" in one.filename.lower()] or lists
            if not labels:
                return ""
            # The size in the header is only claimed.
            with attached.open(labels[0]) as stream:
                text = stream.read(_MAX_LABEL_BYTES + 1)
    except _DAMAGE as error:
        raise UserError(f"{path!r}: its label list cannot be unpacked: {error}") from error
    if len(text) > _MAX_LABEL_BYTES:
        raise UserError(f"{path!r}: its label list has more than {_MAX_LABEL_BYTES:,} bytes.")
    return documents.decode(text, path=f"{path}/{labels[0].filename}")


def _metadata_buffer(model: object) -> bytes | None:
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() != _BUFFER_NAME:
            continue
        data = model.Buffers(entry.Buffer()).DataAsNumpy()
        buffer = b"" if isinstance(data, int) else data.tobytes()
        if buffer[4:8] == _IDENTIFIER:
            return buffer
    return None


def _normalization(graph: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    image = next(iter(_tables(graph, _INPUTS)), None)
    for unit in _tables(image, _PROCESS_UNITS) if image is not None else ():
        place = _place(unit, _OPTIONS_TYPE)
        if place and unit.Bytes[place] == _NORMALIZATION and _place(unit, _OPTIONS):
            options = _table(unit, unit.Indirect(_place(unit, _OPTIONS)))
            return _floats(options, _MEAN), _floats(options, _STD)
    return (), ()


def _place(table: object, field: int) -> int:
    """Where a field of a table is; 0 where it is not given."""
    offset = table.Offset(4 + 2 * field)
    return offset + table.Pos if offset else 0


def _table(parent: object, position: int) -> object:
    return type(parent)(parent.Bytes, position)


def _tables(table: object, field: int) -> list[object]:
    if not _place(table, field):
        return []
    offset = _place(table, field) - table.Pos
    start, number = table.Vector(offset), table.VectorLen(offset)
    if start + 4 * number > len(table.Bytes):
        raise ValueError(f"a list of {number} entries ends behind the metadata")
    return [_table(table, table.Indirect(start + 4 * one)) for one in range(number)]


def _floats(table: object, field: int) -> tuple[float, ...]:
    if not _place(table, field):
        return ()
    offset = _place(table, field) - table.Pos
    start, number = table.Vector(offset), table.VectorLen(offset)
    return struct.unpack_from(f"<{number}f", table.Bytes, start)


def _text(table: object, field: int) -> str:
    place = _place(table, field)
    return table.String(place).decode("utf-8") if place else ""
