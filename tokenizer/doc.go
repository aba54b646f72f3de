// Package tokenizer turns text into token ids and back, and renders chat templates.
//
// Three kinds of tokenizer share the interface Tokenizer: a character vocabulary for plain text (NewChar, FromText),
// Hugging Face's tokenizer.json (FromFolder, FromFiles) and the vocabulary inside a GGUF file (FromGGUF), which is converted
// to tokenizer.json content so that it can be saved beside a model. Every Tokenizer is immutable after construction and safe for
// concurrent use.
//
// The tokenizer.json engine is our own. go-huggingface v0.4.0 hftokenizer was measured against the tokenizers library first
// and gives other ids for every decoder model tried: its ByteLevel step splits at spaces only (no GPT-2 pattern, use_regex unread),
// a Split pattern with a lookahead fails to compile and is silently skipped, "Digits" is unknown (whitespace is dropped instead),
// the Split behaviours MergedWithPrevious and MergedWithNext are not recognised, the Prepend normalizer does nothing, byte_fallback
// and ignore_merges are unread, Unigram is greedy longest match without scores, a missing pre_tokenizer drops whitespace, and one
// word costs time quadratic in its length. TestLibraryDiffers keeps this list honest.
package tokenizer
