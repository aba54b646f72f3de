package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/go-huggingface/tokenizers/hftokenizer"
)

// TestLibraryDiffers is why this package has an engine of its own: go-huggingface's tokenizer against the golden ids. When a style
// begins to agree, use the library for it and take it off the list.
func TestLibraryDiffers(t *testing.T) {
	for _, style := range styles(t) {
		_, g := readGolden(t, style)
		content, err := os.ReadFile(filepath.Join(goldens, style, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		lib, err := hftokenizer.NewFromContent(nil, content)
		if err != nil {
			t.Logf("%s: %v", style, err)
			continue
		}
		wrong, text := 0, 0
		for _, c := range g.Cases {
			if !slices.Equal(lib.Encode(c.Text), c.Special) {
				wrong++
			}
			if lib.Decode(c.IDs) != c.Decoded {
				text++
			}
		}
		t.Logf("%s: %d of %d encodings and %d decodings differ", style, wrong, len(g.Cases), text)
		if wrong == 0 && text == 0 {
			t.Errorf("%s: the library agrees with transformers now; use it", style)
		}
	}
}
