package tokenizer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// benchText is about 1 MB of Newton's Opticks, from the Go source tree.
func benchText(b *testing.B) string {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("no go command to find the Go source tree with")
	}
	content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		b.Skip("Opticks is not in this Go installation")
	}
	return strings.Repeat(string(content), 2)[:min(1<<20, 2*len(content))]
}

// BenchmarkEncode reports MB/s of every golden style on about 1 MB of English.
func BenchmarkEncode(b *testing.B) {
	text := benchText(b)
	for _, style := range styles(b) {
		tok, _ := readGolden(b, style)
		b.Run(style, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := tok.Encode(text, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRegex is the split by regular expression, for patterns without a scanner.
func BenchmarkRegex(b *testing.B) {
	text := benchText(b)
	m, err := regexMatcher("bench", gpt2DefaultRegex)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := m(text); err != nil {
			b.Fatal(err)
		}
	}
}
