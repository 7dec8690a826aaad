#!/usr/bin/env python3
"""Writes formats.bin: random blocks of every GGUF type of kernels/formats.def and the values that
gguf.quants.dequantize gives for them. Needs: pip install gguf numpy

Per format: name (8 bytes, zero padded), bytes and values (u32, little endian), the blocks, the
values (float32). Scales cover normal and subnormal binary16 numbers of both signs.
"""
import pathlib
import struct

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES

N_VALUES = 2048
# format name, GGUF type, byte offsets of binary16 scales and minima in a block
FORMATS = [
    ("f32", "F32", None), ("f16", "F16", None), ("bf16", "BF16", None),
    ("q8_0", "Q8_0", [0]), ("q4_0", "Q4_0", [0]), ("q4_1", "Q4_1", [0, 2]),
    ("q5_0", "Q5_0", [0]), ("q5_1", "Q5_1", [0, 2]),
    ("q4_k", "Q4_K", [0, 2]), ("q5_k", "Q5_K", [0, 2]), ("q6_k", "Q6_K", [208]),
]


def main():
    random = np.random.default_rng(20260101)
    with open(pathlib.Path(__file__).with_name("formats.bin"), "wb") as out:
        for name, type_name, scale_offsets in FORMATS:
            gguf_type = gguf.GGMLQuantizationType[type_name]
            block_values, block_bytes = GGML_QUANT_SIZES[gguf_type]
            n_blocks = N_VALUES // block_values
            if scale_offsets is None:
                values = random.normal(size=N_VALUES) * 10.0 ** random.integers(-6, 4, N_VALUES)
                data = gguf.quants.quantize(values.astype(np.float32), gguf_type).view(np.uint8)
                data = np.ascontiguousarray(data).reshape(-1)
            else:
                blocks = random.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
                for offset in scale_offsets:
                    scales = random.normal(size=n_blocks) * 10.0 ** random.integers(-7, 2, n_blocks)
                    blocks[:, offset:offset + 2] = (
                        scales.astype(np.float16).view(np.uint8).reshape(n_blocks, 2))
                data = blocks.reshape(-1)
            row = data.view(np.float32) if type_name == "F32" else data
            values = gguf.quants.dequantize(row, gguf_type).astype(np.float32).reshape(-1)
            assert values.size == N_VALUES and np.isfinite(values).all()
            out.write(struct.pack("<8sII", name.encode(), data.size, values.size))
            out.write(data.tobytes())
            out.write(values.tobytes())


if __name__ == "__main__":
    main()
