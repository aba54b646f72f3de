package tokenizer

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedSet finds added tokens in a text, leftmost first, longest among those at one place.
type addedSet struct {
	byFirst [256][]addedToken // by the first byte of the matched content, longest first
}

// newAddedSet prepares tokens; spell gives the text a token is matched as.
func newAddedSet(tokens []addedToken, spell func(string) string) *addedSet {
	s := &addedSet{}
	for _, t := range tokens {
		t.Content = spell(t.Content)
		if t.Content != "" {
			s.byFirst[t.Content[0]] = append(s.byFirst[t.Content[0]], t)
		}
	}
	for i := range s.byFirst {
		slices.SortStableFunc(s.byFirst[i], func(a, b addedToken) int { return cmp.Compare(len(b.Content), len(a.Content)) })
	}
	return s
}

// section is a stretch of text: an added token's id, or -1 for text to encode.
type section struct {
	start, end int
	id         int32
}

// cut covers text with sections.
func (s *addedSet) cut(text string) []section {
	var out []section
	done := 0
	for i := 0; i < len(text); {
		t, ok := s.find(text, i)
		if !ok {
			i++
			continue
		}
		end := i + len(t.Content)
		if t.SingleWord && !isolated(text, i, end) {
			i = end
			continue
		}
		start := i
		if t.Lstrip {
			start = max(done, len(strings.TrimRightFunc(text[:i], unicode.IsSpace)))
		}
		if t.Rstrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < start {
			out = append(out, section{done, start, -1})
		}
		out = append(out, section{start, end, int32(t.ID)})
		done, i = end, end
	}
	if done < len(text) {
		out = append(out, section{done, len(text), -1})
	}
	return out
}

func (s *addedSet) find(text string, i int) (addedToken, bool) {
	for _, t := range s.byFirst[text[i]] {
		if strings.HasPrefix(text[i:], t.Content) {
			return t, true
		}
	}
	return addedToken{}, false
}

// isolated tells whether text[start:end] has no word character beside it.
func isolated(text string, start, end int) bool {
	before, n := utf8.DecodeLastRuneInString(text[:start])
	after, m := utf8.DecodeRuneInString(text[end:])
	return (n == 0 || !isWord(before)) && (m == 0 || !isWord(after))
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.M, r) || unicode.Is(unicode.Pc, r)
}
