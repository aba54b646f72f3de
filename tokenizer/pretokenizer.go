package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// piece is a stretch of normalised text; first tells whether it begins at the beginning of the whole input.
type piece struct {
	text  string
	first bool
}

// preTokenizer cuts pieces into smaller ones; the model sees each alone.
type preTokenizer func(pieces []piece) ([]piece, error)

type preTokenizerJSON struct {
	Type             string            `json:"type"`
	PreTokenizers    []json.RawMessage `json:"pretokenizers"`
	AddPrefixSpace   *bool             `json:"add_prefix_space"`
	UseRegex         *bool             `json:"use_regex"`
	IndividualDigits bool              `json:"individual_digits"`
	Pattern          *pattern          `json:"pattern"`
	Behavior         string            `json:"behavior"`
	Invert           bool              `json:"invert"`
	Replacement      string            `json:"replacement"`
	PrependScheme    string            `json:"prepend_scheme"`
	Split            *bool             `json:"split"`
	Delimiter        string            `json:"delimiter"`
}

// newPreTokenizer builds the "pre_tokenizer" component; nil means that the whole text is one piece.
func newPreTokenizer(raw json.RawMessage, depth int) (preTokenizer, error) {
	if absent(raw) {
		return nil, nil
	}
	var j preTokenizerJSON
	if err := decodeInto("pre_tokenizer", raw, &j); err != nil {
		return nil, err
	}
	switch j.Type {
	case "Sequence":
		return preTokenizerSequence(j.PreTokenizers, depth)
	case "ByteLevel":
		return byteLevel(isTrue(j.AddPrefixSpace, false), isTrue(j.UseRegex, true)), nil
	case "Digits":
		if j.IndividualDigits {
			return splitter(runeMatcher(unicode.IsNumber), "Isolated", false), nil
		}
		return splitter(runeMatcher(unicode.IsNumber), "Contiguous", false), nil
	case "Split":
		m, err := newMatcher("pre_tokenizer Split", j.Pattern)
		if err != nil {
			return nil, err
		}
		return newSplitter("pre_tokenizer Split", m, j.Behavior, j.Invert)
	case "Punctuation":
		behavior := j.Behavior
		if behavior == "" {
			behavior = "Isolated"
		}
		return newSplitter("pre_tokenizer Punctuation", runeMatcher(isPunctuation), behavior, false)
	case "Whitespace":
		m, err := regexMatcher("pre_tokenizer Whitespace", `\w+|[^\w\s]+`)
		return splitter(m, "Removed", true), err
	case "WhitespaceSplit":
		return splitter(runeMatcher(unicode.IsSpace), "Removed", false), nil
	case "CharDelimiterSplit":
		return splitter(literalMatcher(j.Delimiter), "Removed", false), nil
	case "BertPreTokenizer":
		return chain(splitter(runeMatcher(unicode.IsSpace), "Removed", false), splitter(runeMatcher(isPunctuation), "Isolated", false)), nil
	case "Metaspace":
		return j.metaspace()
	}
	return nil, fmt.Errorf("pre_tokenizer type %q is not supported; known: Sequence, ByteLevel, Digits, Split, Punctuation, Whitespace, "+
		"WhitespaceSplit, CharDelimiterSplit, BertPreTokenizer, Metaspace", j.Type)
}

func isTrue(b *bool, missing bool) bool {
	if b == nil {
		return missing
	}
	return *b
}

func preTokenizerSequence(parts []json.RawMessage, depth int) (preTokenizer, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("pre_tokenizer: Sequence nested deeper than %d", maxNesting)
	}
	var steps []preTokenizer
	for _, raw := range parts {
		step, err := newPreTokenizer(raw, depth+1)
		if err != nil {
			return nil, err
		}
		if step != nil {
			steps = append(steps, step)
		}
	}
	return chain(steps...), nil
}

func chain(steps ...preTokenizer) preTokenizer {
	return func(pieces []piece) ([]piece, error) {
		var err error
		for _, step := range steps {
			if pieces, err = step(pieces); err != nil {
				return nil, err
			}
		}
		return pieces, nil
	}
}

func newSplitter(what string, m matcher, behavior string, invert bool) (preTokenizer, error) {
	switch behavior {
	case "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous":
		return splitter(m, behavior, invert), nil
	}
	return nil, fmt.Errorf("%s: behavior %q; known: Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous", what, behavior)
}

func splitter(m matcher, behavior string, invert bool) preTokenizer {
	return func(pieces []piece) ([]piece, error) {
		out := make([]piece, 0, len(pieces))
		for _, p := range pieces {
			cuts, err := m(p.text)
			if err != nil {
				return nil, err
			}
			if invert {
				for i := range cuts {
					cuts[i].match = !cuts[i].match
				}
			}
			for _, c := range arrange(cuts, behavior) {
				out = append(out, piece{p.text[c.start:c.end], p.first && c.start == 0})
			}
		}
		return out, nil
	}
}

// byteLevel cuts by GPT-2's pattern where useRegex is set, then writes bytes as printable runes.
func byteLevel(prefixSpace, useRegex bool) preTokenizer {
	split := splitter(scanMatcher(nextGPT2), "Isolated", false)
	return func(pieces []piece) ([]piece, error) {
		if prefixSpace {
			spaced := make([]piece, len(pieces))
			for i, p := range pieces {
				if !strings.HasPrefix(p.text, " ") {
					p.text = " " + p.text
				}
				spaced[i] = p
			}
			pieces = spaced
		}
		if useRegex {
			var err error
			if pieces, err = split(pieces); err != nil {
				return nil, err
			}
		}
		out := make([]piece, len(pieces))
		for i, p := range pieces {
			out[i] = piece{toByteLevel(p.text), p.first}
		}
		return out, nil
	}
}

// scheme is a Metaspace's prepend_scheme; older files say add_prefix_space instead.
func scheme(prepend string, addPrefixSpace *bool) (string, error) {
	switch prepend {
	case "":
		if isTrue(addPrefixSpace, true) {
			return "always", nil
		}
		return "never", nil
	case "always", "first", "never":
		if addPrefixSpace != nil && !*addPrefixSpace {
			return "never", nil
		}
		return prepend, nil
	}
	return "", fmt.Errorf("metaspace: prepend_scheme %q; known: always, first, never", prepend)
}

func (j *preTokenizerJSON) metaspace() (preTokenizer, error) {
	mark := j.Replacement
	if mark == "" {
		mark = "▁"
	}
	prepend, err := scheme(j.PrependScheme, j.AddPrefixSpace)
	if err != nil {
		return nil, err
	}
	cut := splitter(literalMatcher(mark), "MergedWithNext", false)
	return func(pieces []piece) ([]piece, error) {
		marked := make([]piece, len(pieces))
		for i, p := range pieces {
			p.text = strings.ReplaceAll(p.text, " ", mark)
			if (prepend == "always" || (prepend == "first" && p.first)) && !strings.HasPrefix(p.text, mark) {
				p.text = mark + p.text
			}
			marked[i] = p
		}
		if !isTrue(j.Split, true) {
			return marked, nil
		}
		return cut(marked)
	}, nil
}

// isPunctuation is Unicode punctuation, plus all ASCII symbols as BERT counts them.
func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || (r > ' ' && r < 127 && unicode.IsSymbol(r))
}
