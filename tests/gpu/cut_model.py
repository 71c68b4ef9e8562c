"""A real GGUF file cut down so that it can be carried to a borrowed GPU: the first tokens of its vocabulary, some of its layers.

    cut_model.py IN OUT N_TOKENS LAYERS        LAYERS: 0-5,12,13: these become 0, 1, 2 ... of the new file
Weights are copied as they stand, block for block. Layers whose kind depends on their number (a sliding window in five of six)
must keep their kind. Needs the package gguf."""
import sys

from gguf import GGUFReader, GGUFValueType, GGUFWriter

CUT = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}


def layers_of(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def main(source, target, n_tokens, layers):
    reader = GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        kind = field.types[0]
        if name == arch + ".block_count":
            value = len(layers)
        if kind == GGUFValueType.ARRAY:
            writer.add_key_value(name, value[:n_tokens] if name in CUT else value, kind, field.types[-1])
        else:
            writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        name, data = tensor.name, tensor.data
        if parts[0] == "blk":
            if int(parts[1]) not in layers:
                continue
            name = ".".join(["blk", str(layers.index(int(parts[1])))] + parts[2:])
        elif name in ("token_embd.weight", "output.weight"):
            data = data[:n_tokens]
        writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), list(layers_of(sys.argv[4])))
