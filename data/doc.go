// Package data turns text, JSON lines and parquet files into training batches.
//
// Open reads the files once, as a stream, and writes their token ids to a cache file; rows of Length tokens are then cut from that
// file by offset, so that memory does not grow with the data. A cache is keyed by the files' content, the tokenizer and the chat
// template, carries a checksum, appears under its name only when complete, and is rebuilt when damaged. Nothing removes old caches:
// the folder (Options.CacheDir) may be deleted at any time when no run is using it.
//
// Two kinds of corpus exist. Plain text is one stream of tokens: rows are its windows of Length tokens, the validation part is its
// end. Rows with text, prompt and completion, or messages are examples: they are packed into rows or stand alone, and a seeded
// hash of each example's tokens decides whether it is held out, so that equal examples never fall on both sides.
//
// A batch is a pure function of (data, options, seed, step): nothing is remembered between calls, a resumed run asks for the step
// it needs. A Corpus and its Splits are safe for concurrent use until Close.
package data
