package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

type wordPieceJSON struct {
	Vocab                   json.RawMessage `json:"vocab"`
	UnkToken                string          `json:"unk_token"`
	ContinuingSubwordPrefix *string         `json:"continuing_subword_prefix"`
	MaxInputCharsPerWord    *int            `json:"max_input_chars_per_word"`
}

// wordPiece takes the longest piece of the vocabulary at each position; one position without a piece makes the whole word unknown.
type wordPiece struct {
	ids      map[string]int32
	unk      int32
	prefix   string
	maxRunes int
	whole    bool // WordLevel: the word itself or unknown
}

func newWordPiece(raw json.RawMessage, whole bool) (*wordPiece, error) {
	var j wordPieceJSON
	if err := decodeInto("model", raw, &j); err != nil {
		return nil, err
	}
	ids, err := parseVocab(j.Vocab)
	if err != nil {
		return nil, err
	}
	unk, ok := ids[j.UnkToken]
	if !ok {
		return nil, fmt.Errorf("model.unk_token %q is not in the vocabulary", j.UnkToken)
	}
	w := &wordPiece{ids: ids, unk: unk, prefix: "##", maxRunes: 100, whole: whole}
	if j.ContinuingSubwordPrefix != nil {
		w.prefix = *j.ContinuingSubwordPrefix
	}
	if j.MaxInputCharsPerWord != nil {
		w.maxRunes = *j.MaxInputCharsPerWord
	}
	return w, nil
}

func (w *wordPiece) vocab() map[string]int32 { return w.ids }

func (w *wordPiece) encode(dst []int32, word string) ([]int32, error) {
	if id, ok := w.ids[word]; ok && (w.whole || utf8.RuneCountInString(word) <= w.maxRunes) {
		return append(dst, id), nil
	}
	if w.whole || utf8.RuneCountInString(word) > w.maxRunes {
		return append(dst, w.unk), nil
	}
	start := len(dst)
	for i := 0; i < len(word); {
		id, end := w.longest(word, i)
		if end == i {
			return append(dst[:start], w.unk), nil
		}
		dst = append(dst, id)
		i = end
	}
	return dst, nil
}

func (w *wordPiece) longest(word string, i int) (id int32, end int) {
	prefix := ""
	if i > 0 {
		prefix = w.prefix
	}
	for end := len(word); end > i; {
		if id, ok := w.ids[prefix+word[i:end]]; ok {
			return id, end
		}
		_, size := utf8.DecodeLastRuneInString(word[i:end])
		end -= size
	}
	return 0, i
}
