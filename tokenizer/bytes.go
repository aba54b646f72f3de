package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// byteRunes maps a byte to the printable rune that GPT-2's vocabulary writes for it; runeBytes is its inverse (-1 where undefined).
var byteRunes, runeBytes = byteTables()

// byteTables builds GPT-2's reversible byte alphabet: printable Latin-1 bytes stand for themselves, the others follow from U+0100 on.
func byteTables() (forward [256]rune, back [512]int16) {
	for i := range back {
		back[i] = -1
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		printable := (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF)
		if !printable {
			r = next
			next++
		}
		forward[b] = r
		back[r] = int16(b)
	}
	return forward, back
}

// toByteLevel writes every byte of s as its rune.
func toByteLevel(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/4 + 2)
	for i := range len(s) {
		b.WriteRune(byteRunes[s[i]])
	}
	return b.String()
}

// fromByteLevel appends the bytes that token stands for; a token with a rune outside the alphabet stands for its own UTF-8 bytes.
func fromByteLevel(dst []byte, token string) []byte {
	start := len(dst)
	for _, r := range token {
		if r >= rune(len(runeBytes)) || runeBytes[r] < 0 {
			return append(dst[:start], token...)
		}
		dst = append(dst, byte(runeBytes[r]))
	}
	return dst
}

// lossy converts b to text; every maximal part of a broken sequence becomes one U+FFFD, as the Unicode standard recommends.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			for size < len(b) && !utf8.FullRune(b[:size]) && extends(b[:size+1]) {
				size++
			}
		}
		out.WriteRune(r)
		b = b[size:]
	}
	return out.String()
}

// extends tells whether b is still the beginning of a valid sequence.
func extends(b []byte) bool { return len(b) < utf8.UTFMax && !utf8.FullRune(b) }

// incompleteTail is the number of trailing bytes that may become a rune when more bytes follow (0 to 3).
func incompleteTail(b []byte) int {
	for n := min(utf8.UTFMax-1, len(b)); n > 0; n-- {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) && !utf8.FullRune(tail) {
			return n
		}
	}
	return 0
}
