package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// alphabet holds every class that the split patterns tell apart.
var alphabet = []string{" ", "  ", "\n", "\r", "\t", "\u00a0", "\u2003", "a", "Z", "é", "中", "s", "t", "re", "LL", "'", "'s", "'RE", "1", "23", "½", "٣",
	".", "!?", "_", "😀", "\u0301", "\u200d", "\x00", "\u0085", "\u2028"}

func randomText(rng *rand.Rand, parts int) string {
	var b strings.Builder
	for range parts {
		b.WriteString(alphabet[rng.IntN(len(alphabet))])
	}
	return b.String()
}

// TestScanners compares the scanners with the regular expressions they stand for on random texts. The long s is left out because
// regexp2, unlike Oniguruma, does not fold it to s; the golden files have it.
func TestScanners(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for expr, next := range map[string]func(string, int) int{gpt2Regex: nextGPT2, llamaRegex: nextLlama(3), qwenRegex: nextLlama(1)} {
		slow, err := regexMatcher("test", expr)
		if err != nil {
			t.Fatal(err)
		}
		fast := scanMatcher(next)
		for range 3000 {
			text := strings.ReplaceAll(randomText(rng, 1+rng.IntN(12)), "'ſ", "'")
			want, err := slow(text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fast(text)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s\n%q: got %v, want %v", expr, text, got, want)
			}
		}
	}
}

// TestMergeLong compares the heap with the linear search.
func TestMergeLong(t *testing.T) {
	tok, _ := readGolden(t, "gpt2")
	m := tok.(*huggingFace).model.(*bpe)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		ids, err := m.characters(nil, toByteLevel("the quick aaaa of and"[rng.IntN(8):]+randomText(rng, rng.IntN(6))))
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) > shortWord {
			ids = ids[:shortWord]
		}
		short, long := slices.Clone(ids), slices.Clone(ids)
		short, long = short[:m.merge(short)], long[:m.mergeLong(long)]
		if !slices.Equal(short, long) {
			t.Fatalf("%v: linear %v, heap %v", ids, short, long)
		}
	}
}

// TestLossy holds the replacement of broken bytes to the Unicode standard's practice (table 3-8 of its chapter 3).
func TestLossy(t *testing.T) {
	for in, want := range map[string]string{
		"a\xe2\x82":                "a\uFFFD",
		"\xf0\x9f\x98a":            "\uFFFDa",
		"\xff\xfe":                 "\uFFFD\uFFFD",
		"\xc0\xaf\xe0\x80":         "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xe1\x80\xe2\xf0\x91\x92": "\uFFFD\uFFFD\uFFFD",
		"ok é":                     "ok é",
	} {
		if got := lossy([]byte(in)); got != want {
			t.Errorf("lossy(%q) = %q, want %q", in, got, want)
		}
	}
}
