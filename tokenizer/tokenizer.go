package tokenizer

// Tokenizer maps text to ids in [0, VocabSize()) and back. Implementations are safe for concurrent use.
type Tokenizer interface {
	// Encode returns the ids of text. Special tokens written in the text are encoded as special tokens. addSpecial adds what the
	// tokenizer's post-processor adds (for instance a beginning-of-sequence token). Fails where the vocabulary cannot express the text.
	Encode(text string, addSpecial bool) ([]int, error)
	// Decode returns the text of ids, special tokens included; ids outside the vocabulary are skipped and invalid UTF-8 becomes U+FFFD.
	Decode(ids []int) string
	// VocabSize is one more than the largest id.
	VocabSize() int
	// BOS returns the beginning-of-sequence id, false where there is none.
	BOS() (int, bool)
	// EOS returns the end-of-sequence id, false where there is none.
	EOS() (int, bool)
	// Pad returns the padding id, false where there is none.
	Pad() (int, bool)
	// Token returns the vocabulary's spelling of id ("" outside the vocabulary).
	Token(id int) string
	// Files returns what must be saved beside a model so that FromFolder gives the same tokenizer: file name -> content.
	Files() map[string][]byte
	// Fingerprint is a short hash of everything that determines the ids; equal fingerprints encode equally.
	Fingerprint() string
}
