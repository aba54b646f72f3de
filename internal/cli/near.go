package cli

// nearest returns the word of words that name is most likely a slip of, or "" where none is near. Words may differ by a
// third of their letters, at least two; a transposition counts as one.
func nearest(name string, words []string) string {
	best, found := "", max(2, len(name)/3)+1
	for _, word := range words {
		if d := editDistance(name, word); d < found {
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

// editDistance counts insertions, deletions, substitutions and transpositions of neighbours between two short names.
func editDistance(a, b string) int {
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
