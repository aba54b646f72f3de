package data

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
)

// byteTokenizer has one token a byte, an end (256) and a padding token (257); with bos set it adds 258 in front.
type byteTokenizer struct{ bos bool }

const (
	testEOS = 256
	testPad = 257
	testBOS = 258
)

func (t byteTokenizer) Encode(text string, addSpecial bool) ([]int, error) {
	var ids []int
	if t.bos && addSpecial {
		ids = append(ids, testBOS)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int(b))
	}
	return ids, nil
}

func (t byteTokenizer) Decode(ids []int) string {
	var b bytes.Buffer
	for _, id := range ids {
		if id < 256 {
			b.WriteByte(byte(id))
		} else {
			b.WriteString(t.Token(id))
		}
	}
	return b.String()
}

func (t byteTokenizer) VocabSize() int           { return 259 }
func (t byteTokenizer) BOS() (int, bool)         { return testBOS, t.bos }
func (t byteTokenizer) EOS() (int, bool)         { return testEOS, true }
func (t byteTokenizer) Pad() (int, bool)         { return testPad, true }
func (t byteTokenizer) Files() map[string][]byte { return nil }
func (t byteTokenizer) Fingerprint() string      { return fmt.Sprint("bytes", t.bos) }
func (t byteTokenizer) Token(id int) string {
	return map[int]string{testEOS: "<end>", testPad: "<pad>", testBOS: "<begin>"}[id]
}

// write puts content into a new file and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// settings are options for a test: byte tokens, a cache of its own.
func settings(t testing.TB, path string, change func(*Options)) Options {
	t.Helper()
	o := Options{Path: path, Tokenizer: byteTokenizer{}, Length: 8, CacheDir: t.TempDir(), Offline: true}
	if change != nil {
		change(&o)
	}
	return o
}

func open(t testing.TB, o Options) *Corpus {
	t.Helper()
	c, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func mustBatch(t testing.TB, s *Split, step int64, rows int) Batch {
	t.Helper()
	b, err := s.Batch(step, rows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// textOf is the tokens of row r decoded, padding as "_".
func textOf(b Batch, values []int32, r int) string {
	var out strings.Builder
	for _, id := range values[r*b.Length : (r+1)*b.Length] {
		switch {
		case id < 256:
			out.WriteByte(byte(id))
		case id == testEOS:
			out.WriteByte('$')
		case id == testBOS:
			out.WriteByte('^')
		default:
			out.WriteByte('_')
		}
	}
	return out.String()
}

func digits(values []int32) string {
	var out strings.Builder
	for _, v := range values {
		out.WriteByte('0' + byte(v))
	}
	return out.String()
}

func marks(b Batch, r int) string {
	var out strings.Builder
	for _, w := range b.Weights[r*b.Length : (r+1)*b.Length] {
		out.WriteByte('0' + byte(w))
	}
	return out.String()
}

// heap is the size of the objects in use, and of those not yet collected.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
