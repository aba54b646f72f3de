package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// CharFile is the name under which a character vocabulary is saved beside a model.
const CharFile = "polar_char_tokenizer.json"

// charFormat marks the file's format, so that a later change can be told apart.
const charFormat = "polar-characters-1"

// Char is a character-level vocabulary: id i is the i-th rune of the sorted alphabet. It has no special tokens.
type Char struct {
	alphabet []rune
	ids      map[rune]int
}

type charFile struct {
	Format   string `json:"format"`
	Alphabet string `json:"alphabet"`
}

// NewChar returns the character tokenizer over the sorted unique runes of alphabet. An empty alphabet is an error.
func NewChar(alphabet []rune) (*Char, error) {
	sorted := slices.Clone(alphabet)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) == 0 {
		return nil, fmt.Errorf("character vocabulary: the text is empty; give at least one character")
	}
	c := &Char{alphabet: sorted, ids: make(map[rune]int, len(sorted))}
	for i, r := range sorted {
		if !utf8.ValidRune(r) {
			return nil, fmt.Errorf("character vocabulary: %U is not a Unicode character", r)
		}
		c.ids[r] = i
	}
	return c, nil
}

// FromText returns the character tokenizer over the runes of text. Text that is empty or not UTF-8 is an error.
func FromText(text string) (*Char, error) {
	seen := map[rune]bool{}
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return nil, fmt.Errorf("character vocabulary: byte 0x%02x at offset %d is not UTF-8; convert the text first", text[i], i)
			}
		}
		seen[r] = true
	}
	runes := make([]rune, 0, len(seen))
	for r := range seen {
		runes = append(runes, r)
	}
	return NewChar(runes)
}

// charFromJSON reads a file written by Files.
func charFromJSON(content []byte) (*Char, error) {
	var f charFile
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", CharFile, err)
	}
	if f.Format != charFormat {
		return nil, fmt.Errorf("%s: format %q, want %q", CharFile, f.Format, charFormat)
	}
	c, err := NewChar([]rune(f.Alphabet))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CharFile, err)
	}
	if string(c.alphabet) != f.Alphabet {
		return nil, fmt.Errorf("%s: the alphabet is not sorted or repeats a character; the file was edited", CharFile)
	}
	return c, nil
}

// Encode returns one id a character; an unknown character is an error naming it and its byte offset. addSpecial changes nothing.
func (c *Char) Encode(text string, addSpecial bool) ([]int, error) {
	ids := make([]int, 0, len(text))
	for i, r := range text {
		id, ok := c.ids[r]
		if !ok {
			return nil, fmt.Errorf("encode: character %q (%U) at byte offset %d is not among the vocabulary's %d characters", r, r, i, len(c.alphabet))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Decode returns the characters of ids.
func (c *Char) Decode(ids []int) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(c.Token(id))
	}
	return b.String()
}

// VocabSize is the number of characters.
func (c *Char) VocabSize() int { return len(c.alphabet) }

// BOS is never present.
func (c *Char) BOS() (int, bool) { return 0, false }

// EOS is never present.
func (c *Char) EOS() (int, bool) { return 0, false }

// Pad is never present.
func (c *Char) Pad() (int, bool) { return 0, false }

// Token returns the character of id.
func (c *Char) Token(id int) string {
	if id < 0 || id >= len(c.alphabet) {
		return ""
	}
	return string(c.alphabet[id])
}

// Files returns the alphabet as CharFile.
func (c *Char) Files() map[string][]byte {
	content, err := json.Marshal(charFile{Format: charFormat, Alphabet: string(c.alphabet)})
	if err != nil { // two strings always marshal
		return nil
	}
	return map[string][]byte{CharFile: append(content, '\n')}
}

// Fingerprint hashes the alphabet.
func (c *Char) Fingerprint() string {
	return fingerprint([]byte(charFormat), []byte(string(c.alphabet)))
}
