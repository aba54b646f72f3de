package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const goldens = "../testdata/tokenizers"

type goldenCase struct {
	Text    string `json:"text"`
	IDs     []int  `json:"ids"`
	Special []int  `json:"special"`
	Decoded string `json:"decoded"`
}

type goldenFile struct {
	BOS   *int         `json:"bos"`
	EOS   *int         `json:"eos"`
	Pad   *int         `json:"pad"`
	Size  int          `json:"size"`
	Cases []goldenCase `json:"cases"`
}

func styles(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(goldens, "*", "tokenizer.json"))
	if err != nil || len(paths) < 10 {
		t.Fatalf("golden tokenizers: found %d, want at least 10 (%v); run bench/golden/make_tokenizers.py", len(paths), err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	return names
}

func readGolden(t testing.TB, style string) (Tokenizer, goldenFile) {
	t.Helper()
	dir := filepath.Join(goldens, style)
	tok, err := FromFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFile
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 40 {
		t.Fatalf("%s: only %d cases", style, len(g.Cases))
	}
	return tok, g
}

// TestGolden compares ids and decoded text with transformers' for every style; ids are exact.
func TestGolden(t *testing.T) {
	for _, style := range styles(t) {
		t.Run(style, func(t *testing.T) {
			tok, g := readGolden(t, style)
			for _, c := range g.Cases {
				got, err := tok.Encode(c.Text, false)
				if err != nil || !slices.Equal(got, c.IDs) {
					t.Errorf("Encode(%q, false)\n got %v %q %v\nwant %v %q", c.Text, got, spell(tok, got), err, c.IDs, spell(tok, c.IDs))
				}
				got, err = tok.Encode(c.Text, true)
				if err != nil || !slices.Equal(got, c.Special) {
					t.Errorf("Encode(%q, true) = %v, %v, want %v", c.Text, got, err, c.Special)
				}
				if text := tok.Decode(c.IDs); text != c.Decoded {
					t.Errorf("Decode(%v) = %q, want %q", c.IDs, text, c.Decoded)
				}
			}
			checkSpecial(t, "bos", tok.BOS, g.BOS)
			checkSpecial(t, "eos", tok.EOS, g.EOS)
			checkSpecial(t, "pad", tok.Pad, g.Pad)
			if tok.VocabSize() != g.Size {
				t.Errorf("VocabSize() = %d, want %d", tok.VocabSize(), g.Size)
			}
		})
	}
}

func spell(tok Tokenizer, ids []int) []string {
	var out []string
	for _, id := range ids {
		out = append(out, tok.Token(id))
	}
	return out
}

func checkSpecial(t *testing.T, name string, get func() (int, bool), want *int) {
	t.Helper()
	id, ok := get()
	if ok != (want != nil) || (ok && id != *want) {
		t.Errorf("%s = %d, %v, want %v", name, id, ok, want)
	}
}

// TestStream pushes every golden text token by token: the pieces are whole characters and join to the decoded text.
func TestStream(t *testing.T) {
	for _, style := range styles(t) {
		tok, g := readGolden(t, style)
		for _, c := range g.Cases {
			s := NewStream(tok)
			var b strings.Builder
			for _, id := range c.IDs {
				piece := s.Push(id)
				if strings.ContainsRune(piece, '\uFFFD') && !strings.ContainsRune(c.Decoded, '\uFFFD') {
					t.Errorf("%s: %q: a broken character came out: %q", style, c.Text, piece)
				}
				b.WriteString(piece)
			}
			b.WriteString(s.Flush())
			if b.String() != c.Decoded {
				t.Errorf("%s: stream of %v gave %q, want %q", style, c.IDs, b.String(), c.Decoded)
			}
		}
	}
}

// TestSaved: Files and FromFiles give the same tokenizer again.
func TestSaved(t *testing.T) {
	for _, style := range styles(t) {
		tok, g := readGolden(t, style)
		again, err := FromFiles(tok.Files())
		if err != nil {
			t.Fatal(err)
		}
		if again.Fingerprint() != tok.Fingerprint() {
			t.Errorf("%s: fingerprint %s became %s", style, tok.Fingerprint(), again.Fingerprint())
		}
		for _, c := range g.Cases {
			if got, err := again.Encode(c.Text, true); err != nil || !slices.Equal(got, c.Special) {
				t.Errorf("%s: Encode(%q) = %v, %v, want %v", style, c.Text, got, err, c.Special)
			}
		}
	}
}

// TestConcurrent encodes from many goroutines (run with -race).
func TestConcurrent(t *testing.T) {
	tok, g := readGolden(t, "smollm2")
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, c := range g.Cases {
				if got, err := tok.Encode(c.Text, false); err != nil || !slices.Equal(got, c.IDs) {
					t.Errorf("Encode(%q) = %v, %v", c.Text, got, err)
				}
			}
		}()
	}
	wg.Wait()
}
