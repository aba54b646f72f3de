// Package safetensors reads and writes the safetensors format: 8 bytes of header length (little endian), a JSON header,
// and the tensors' bytes. Hugging Face models, PEFT adapters and Polar's checkpoints are kept in it.
//
// The reader trusts nothing: the header must fit the file, every tensor must lie inside the data, tensors must not
// overlap, and each must have exactly the bytes of its type and shape. The writer writes to a temporary name, syncs and
// renames, so that a reader sees the old file or the new one, whole. A File may be read from several goroutines.
//
// go-huggingface's reader is not used: it opens files only through a hub repository and has no writer.
package safetensors
