package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// kind is a rune's class in the split patterns: \p{L}, \p{N}, \s, or anything else.
type kind uint8

const (
	other kind = iota
	letter
	number
	space
)

// asciiKind is kindOf for runes below 128.
var asciiKind = func() (t [utf8.RuneSelf]kind) {
	for r := range rune(utf8.RuneSelf) {
		t[r] = slowKind(r)
	}
	return t
}()

func slowKind(r rune) kind {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// at returns the class and size of the rune at text[i:], size 0 at the end.
func at(text string, i int) (kind, int) {
	if i >= len(text) {
		return other, 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return asciiKind[c], 1
	}
	r, size := utf8.DecodeRuneInString(text[i:])
	return slowKind(r), size
}

// run returns the end of the longest stretch of class k from i.
func run(text string, i int, k kind) int {
	for {
		next, size := at(text, i)
		if size == 0 || next != k {
			return i
		}
		i += size
	}
}

// scanMatcher turns a function that gives the end of the match at i (never i itself) into a matcher.
func scanMatcher(next func(text string, i int) int) matcher {
	return func(text string) ([]cut, error) {
		cuts := make([]cut, 0, len(text)/4+1)
		for i := 0; i < len(text); {
			end := next(text, i)
			cuts = append(cuts, cut{i, end, true})
			i = end
		}
		return cuts, nil
	}
}

// contraction returns the end of 's, 't, 're, 've, 'm, 'll or 'd at i, or i.
func contraction(text string, i int, anyCase bool) int {
	if text[i] != '\'' || i+1 >= len(text) {
		return i
	}
	lower := func(j int) byte {
		if j >= len(text) {
			return 0
		}
		c := text[j]
		if anyCase && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	switch a, b := lower(i+1), lower(i+2); {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return i + 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return i + 3
	}
	if anyCase { // U+017F, the long s, folds to s
		if r, size := utf8.DecodeRuneInString(text[i+1:]); r == 'ſ' {
			return i + 1 + size
		}
	}
	return i
}

// spaces returns the end of \s+(?!\S)|\s+ at i, where a space begins: the last space is left to the word that follows.
func spaces(text string, i int) int {
	end := run(text, i, space)
	if end == len(text) {
		return end
	}
	if _, size := utf8.DecodeLastRuneInString(text[i:end]); end-size > i {
		return end - size
	}
	return end
}

// nextGPT2 is gpt2Regex.
func nextGPT2(text string, i int) int {
	if end := contraction(text, i, false); end > i {
		return end
	}
	k, size := at(text, i)
	j := i
	if text[i] == ' ' {
		if after, n := at(text, i+1); n > 0 && after != space {
			j, k, size = i+1, after, n
		}
	}
	if k == space {
		return spaces(text, i)
	}
	return run(text, j+size, k)
}

// nextLlama is llamaRegex with at most digits digits together (qwenRegex: 1).
func nextLlama(digits int) func(text string, i int) int {
	return func(text string, i int) int {
		if end := contraction(text, i, true); end > i {
			return end
		}
		k, size := at(text, i)
		newline := text[i] == '\r' || text[i] == '\n'
		after, n := at(text, i+size)
		switch {
		case k == letter:
			return run(text, i+size, letter)
		case k != number && !newline && n > 0 && after == letter:
			return run(text, i+size, letter)
		case k == number:
			end := i + size
			for range digits - 1 {
				if next, n := at(text, end); n > 0 && next == number {
					end += n
				}
			}
			return end
		case k == other || (text[i] == ' ' && n > 0 && after == other):
			end := run(text, i+size, other)
			for end < len(text) && (text[end] == '\r' || text[end] == '\n') {
				end++
			}
			return end
		}
		return lineEnd(text, i)
	}
}

// lineEnd is \s*[\r\n]+|\s+(?!\S)|\s+ at i, where a space begins.
func lineEnd(text string, i int) int {
	for end := run(text, i, space); end > i; end-- {
		if c := text[end-1]; c == '\r' || c == '\n' {
			return end
		}
	}
	return spaces(text, i)
}
