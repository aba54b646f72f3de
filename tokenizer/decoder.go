package tokenizer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder rewrites the tokens of a sequence; their concatenation is the text.
type decoder func(tokens []string) []string

type decoderJSON struct {
	Type           string            `json:"type"`
	Decoders       []json.RawMessage `json:"decoders"`
	Pattern        *pattern          `json:"pattern"`
	Content        string            `json:"content"`
	Start          int               `json:"start"`
	Stop           int               `json:"stop"`
	Replacement    string            `json:"replacement"`
	PrependScheme  string            `json:"prepend_scheme"`
	AddPrefixSpace *bool             `json:"add_prefix_space"`
	Prefix         string            `json:"prefix"`
	Suffix         string            `json:"suffix"`
	Cleanup        bool              `json:"cleanup"`
}

// newDecoder builds the "decoder" component; without one, tokens are joined by spaces.
func newDecoder(raw json.RawMessage, depth int) (decoder, error) {
	if absent(raw) {
		return func(tokens []string) []string { return []string{strings.Join(tokens, " ")} }, nil
	}
	var j decoderJSON
	if err := decodeInto("decoder", raw, &j); err != nil {
		return nil, err
	}
	switch j.Type {
	case "Sequence":
		return decoderSequence(j.Decoders, depth)
	case "ByteLevel":
		return decodeByteLevel, nil
	case "ByteFallback":
		return decodeByteFallback, nil
	case "Fuse":
		return func(tokens []string) []string { return []string{strings.Join(tokens, "")} }, nil
	case "Strip":
		return each(j.strip), nil
	case "Replace":
		replace, err := newReplace("decoder Replace", j.Pattern, j.Content)
		if err != nil {
			return nil, err
		}
		return each(func(s string) string {
			if r, err := replace(s); err == nil {
				return r
			}
			return s // a pattern too slow for this token: its spelling is the best answer there is
		}), nil
	case "Metaspace":
		return j.metaspace()
	case "WordPiece":
		return j.wordPiece, nil
	case "BPEDecoder":
		return j.bpe, nil
	}
	return nil, fmt.Errorf("decoder type %q is not supported; known: Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, "+
		"WordPiece, BPEDecoder", j.Type)
}

func decoderSequence(parts []json.RawMessage, depth int) (decoder, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("decoder: Sequence nested deeper than %d", maxNesting)
	}
	var steps []decoder
	for _, raw := range parts {
		step, err := newDecoder(raw, depth+1)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return func(tokens []string) []string {
		for _, step := range steps {
			tokens = step(tokens)
		}
		return tokens
	}, nil
}

func each(f func(string) string) decoder {
	return func(tokens []string) []string {
		out := make([]string, len(tokens))
		for i, t := range tokens {
			out[i] = f(t)
		}
		return out
	}
}

func decodeByteLevel(tokens []string) []string {
	var b []byte
	for _, t := range tokens {
		b = fromByteLevel(b, t)
	}
	return []string{lossy(b)}
}

// byteToken reads "<0xE2>".
func byteToken(t string) (byte, bool) {
	if len(t) != 6 || t[:3] != "<0x" || t[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(t[3:5], 16, 8)
	return byte(v), err == nil
}

// decodeByteFallback joins runs of byte tokens; a run that is not UTF-8 gives one U+FFFD a byte.
func decodeByteFallback(tokens []string) []string {
	var out []string
	var held []byte
	flush := func() {
		if utf8.Valid(held) {
			if len(held) > 0 {
				out = append(out, string(held))
			}
		} else {
			for range held {
				out = append(out, string(utf8.RuneError))
			}
		}
		held = held[:0]
	}
	for _, t := range tokens {
		if b, ok := byteToken(t); ok {
			held = append(held, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// strip removes up to Start leading and Stop trailing copies of Content.
func (j *decoderJSON) strip(s string) string {
	if j.Content == "" {
		return s
	}
	for range min(j.Start, len(s)) {
		s = strings.TrimPrefix(s, j.Content)
	}
	for range min(j.Stop, len(s)) {
		s = strings.TrimSuffix(s, j.Content)
	}
	return s
}

func (j *decoderJSON) metaspace() (decoder, error) {
	mark := j.Replacement
	if mark == "" {
		mark = "▁"
	}
	prepend, err := scheme(j.PrependScheme, j.AddPrefixSpace)
	if err != nil {
		return nil, err
	}
	return func(tokens []string) []string {
		out := make([]string, len(tokens))
		for i, t := range tokens {
			instead := " "
			if i == 0 && prepend != "never" {
				instead = ""
			}
			out[i] = strings.ReplaceAll(t, mark, instead)
		}
		return out
	}, nil
}

// cleanups undoes BERT's spaces around English punctuation.
var cleanups = strings.NewReplacer(" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'", " n't", "n't", " 'm", "'m", " do not", " don't",
	" 's", "'s", " 've", "'ve", " 're", "'re")

func (j *decoderJSON) wordPiece(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		if i > 0 {
			if rest, ok := strings.CutPrefix(t, j.Prefix); ok && j.Prefix != "" {
				t = rest
			} else {
				t = " " + t
			}
		}
		if j.Cleanup {
			t = cleanups.Replace(t)
		}
		out[i] = t
	}
	return out
}

func (j *decoderJSON) bpe(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		instead := " "
		if i == len(tokens)-1 {
			instead = ""
		}
		if j.Suffix != "" {
			t = strings.ReplaceAll(t, j.Suffix, instead)
		}
		out[i] = t
	}
	return out
}
