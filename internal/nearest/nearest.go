// Package nearest finds the known word that a mistyped one was most likely meant to be, for error messages.
//
// Words are short ASCII names of flags, optimizers or layers; distances count bytes. Safe for concurrent use.
package nearest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Unknown is the error for a name that is none of the known ones of its kind: it lists them, and the one that was likely meant.
// Case does not count in that.
func Unknown(kind, name string, known []string) error {
	hint := ""
	if word := Word(strings.ToLower(name), known); word != "" {
		hint = fmt.Sprintf("; did you mean %q?", word)
	}
	return fmt.Errorf("unknown %s %q; known: %s%s", kind, name, strings.Join(known, ", "), hint)
}

// Word returns the word of words that name is most likely a slip of, or "" where none is near: one that differs by a
// third of the name's letters, at least two, else one that the name abbreviates. Of equally near ones, the first.
func Word(name string, words []string) string {
	best, found := "", max(2, len(name)/3)+1
	for _, word := range words {
		if d := Distance(name, word); d < found {
			best, found = word, d
		}
	}
	if best == "" && len(name) >= 3 {
		for _, word := range words {
			if len(word) > len(name) && word[:len(name)] == name {
				return word
			}
		}
	}
	return best
}

// Words returns up to count of words, the nearest to name first however far they are, equally near ones in their order.
func Words(name string, words []string, count int) []string {
	sorted := slices.Clone(words)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(Distance(name, a), Distance(name, b)) })
	return sorted[:min(count, len(sorted))]
}

// Distance counts the insertions, deletions, substitutions and transpositions of neighbours between two short names.
func Distance(a, b string) int {
	previous, current, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(current[j]+cost, current[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], previous[j-1]+1)
			}
		}
		previous, current, next = current, next, previous
	}
	return current[len(b)]
}
