// Package hf brings models in and out: Hugging Face folders (config.json with single or sharded safetensors), single GGUF
// files, and hub names, into a model.Decoder and a GoMLX store; and back into a folder that transformers loads.
//
// Every weight becomes one float32 variable of the store, named by param.Path of its checkpoint name and stored
// [fan-out, fan-in] whatever the file's layout; the variables belong to the caller afterwards. Nothing in a checkpoint is
// trusted: sizes are checked against the file before anything is allocated, a config value that would change the result
// and is not implemented is refused by name, and all bad tensors come in one error. Load and Save may run at the same time
// on different stores; a store is used by one call at a time.
package hf
