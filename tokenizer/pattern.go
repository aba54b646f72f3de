package tokenizer

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// matchTimeout bounds one match of a regular expression from a file: backtracking can take exponential time.
const matchTimeout = 20 * time.Second

// cut is a stretch of text; match tells whether the pattern matched it.
type cut struct {
	start, end int
	match      bool
}

// matcher cuts a text completely into matches and the stretches between them.
type matcher func(text string) ([]cut, error)

// The two families of patterns that nearly all byte-level models use; they have scanners of their own (see scan.go), tested against
// the regular expressions.
const (
	gpt2Regex  = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llamaRegex = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwenRegex  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

func newMatcher(what string, p *pattern) (matcher, error) {
	switch {
	case p == nil || (p.String == nil && p.Regex == nil):
		return nil, fmt.Errorf("%s: no pattern", what)
	case p.String != nil:
		return literalMatcher(*p.String), nil
	}
	switch *p.Regex {
	case gpt2Regex:
		return scanMatcher(nextGPT2), nil
	case llamaRegex:
		return scanMatcher(nextLlama(3)), nil
	case qwenRegex:
		return scanMatcher(nextLlama(1)), nil
	}
	return regexMatcher(what, *p.Regex)
}

// literalMatcher matches s itself; the empty literal matches nothing.
func literalMatcher(s string) matcher {
	return func(text string) ([]cut, error) {
		var cuts []cut
		at := 0
		for s != "" {
			i := strings.Index(text[at:], s)
			if i < 0 {
				break
			}
			cuts = addMatch(cuts, at, at+i, at+i+len(s))
			at += i + len(s)
		}
		return addRest(cuts, at, len(text)), nil
	}
}

// runeMatcher matches single runes for which is holds.
func runeMatcher(is func(rune) bool) matcher {
	return func(text string) ([]cut, error) {
		var cuts []cut
		at := 0
		for i, r := range text {
			if is(r) {
				_, size := utf8.DecodeRuneInString(text[i:])
				cuts = addMatch(cuts, at, i, i+size)
				at = i + size
			}
		}
		return addRest(cuts, at, len(text)), nil
	}
}

// regexMatcher uses a backtracking engine because the patterns of published tokenizers contain lookaheads, which Go's regexp refuses.
func regexMatcher(what, expr string) (matcher, error) {
	re, err := regexp2.Compile(expr, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("%s: regular expression %q: %w", what, expr, err)
	}
	re.MatchTimeout = matchTimeout
	return func(text string) ([]cut, error) {
		var cuts []cut
		at, bytePos, runePos := 0, 0, 0
		advance := func(to int) int { // byte offset of rune number to; matches come in order
			for runePos < to && bytePos < len(text) {
				_, size := utf8.DecodeRuneInString(text[bytePos:])
				bytePos += size
				runePos++
			}
			return bytePos
		}
		m, err := re.FindStringMatch(text)
		for m != nil && err == nil {
			start := advance(m.Index)
			end := advance(m.Index + m.Length)
			if end > start {
				cuts = addMatch(cuts, at, start, end)
				at = end
			}
			m, err = re.FindNextMatch(m)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: regular expression %q: %s", what, expr, oneLine(firstLine(err.Error())))
		}
		return addRest(cuts, at, len(text)), nil
	}, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return line
}

func addMatch(cuts []cut, at, start, end int) []cut {
	if start > at {
		cuts = append(cuts, cut{at, start, false})
	}
	return append(cuts, cut{start, end, true})
}

func addRest(cuts []cut, at, end int) []cut {
	if at < end {
		cuts = append(cuts, cut{at, end, false})
	}
	return cuts
}

// arrange applies a split behaviour of the tokenizers library to cuts (removed stretches are left out).
func arrange(cuts []cut, behavior string) []cut {
	out := cuts[:0:0]
	previous := false
	switch behavior {
	case "Isolated":
		return cuts
	case "Removed":
		for _, c := range cuts {
			if !c.match {
				out = append(out, c)
			}
		}
	case "Contiguous", "MergedWithPrevious":
		for _, c := range cuts {
			join := c.match == previous
			if behavior == "MergedWithPrevious" {
				join = c.match && !previous
			}
			if join && len(out) > 0 {
				out[len(out)-1].end = c.end
			} else {
				out = append(out, c)
			}
			previous = c.match
		}
	case "MergedWithNext":
		for i := len(cuts) - 1; i >= 0; i-- {
			c := cuts[i]
			if c.match && !previous && len(out) > 0 {
				out[len(out)-1].start = c.start
			} else {
				out = append(out, c)
			}
			previous = c.match
		}
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}
