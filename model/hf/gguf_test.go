package hf

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/go-huggingface/models/gguf"
	"github.com/gomlx/gomlx/core/tensors"
)

// dequantTol bounds the difference of a dequantised value from the gguf package's, relative to the tensor's largest: both
// compute in float32 and may round the product of block and sub-block scale in another order.
const dequantTol = 2.0 / (1 << 23)

// TestGGUFTypes compares every quantised type with the values of the gguf Python package (bench/golden/make_gguf.py).
func TestGGUFTypes(t *testing.T) {
	got := mustLoad(t, "testdata/types.gguf", LoadOptions{})
	want := mustLoad(t, "testdata/types", LoadOptions{})
	if a, b := got.Decoder.Config(), want.Decoder.Config(); a != b {
		t.Fatalf("configuration %+v, want %+v", a, b)
	}
	for _, p := range want.Decoder.Parameters() {
		a, b := values(t, got, p.Name), values(t, want, p.Name)
		largest, worst := 0.0, 0.0
		for i := range b {
			largest, worst = max(largest, math.Abs(float64(b[i]))), max(worst, math.Abs(float64(a[i])-float64(b[i])))
		}
		if !(worst <= dequantTol*largest) || largest == 0 {
			t.Errorf("%s differs by %g of %g", p.Name, worst, largest)
		}
	}
}

// TestGGUFArchitectures compares GGUF files with the Hugging Face folders they were made from, bit for bit.
func TestGGUFArchitectures(t *testing.T) {
	for _, name := range []string{"llama-tied-linear", "qwen2", "qwen3", "gpt2"} {
		t.Run(name, func(t *testing.T) {
			got, want := mustLoad(t, filepath.Join("testdata", name+".gguf"), LoadOptions{}), mustLoad(t, golden(name), LoadOptions{})
			if a, b := got.Decoder.Config(), want.Decoder.Config(); a != b {
				t.Fatalf("configuration %+v, want %+v", a, b)
			}
			equalWeights(t, got, want)
			if got.Fingerprint != want.Fingerprint {
				t.Error("the fingerprint depends on the file format")
			}
		})
	}
}

// TestUnpermuteBites shows that the row order matters to the comparison above.
func TestUnpermuteBites(t *testing.T) {
	data := []float32{0, 1, 2, 3, 4, 5, 6, 7} // two heads of four rows of one
	unpermute(data, 2, 4)
	if want := []float32{0, 2, 1, 3, 4, 6, 5, 7}; fmt.Sprint(data) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", data, want)
	}
}

// ggufWriter builds headers, good and bad.
type ggufWriter struct{ bytes.Buffer }

func (w *ggufWriter) put(values ...any) *ggufWriter {
	for _, v := range values {
		if s, ok := v.(string); ok {
			_ = binary.Write(w, binary.LittleEndian, uint64(len(s)))
			w.WriteString(s)
			continue
		}
		_ = binary.Write(w, binary.LittleEndian, v)
	}
	return w
}

// header is the beginning of a file with the given numbers of tensors and keys.
func header(tensors, keys uint64) *ggufWriter {
	w := &ggufWriter{}
	w.WriteString("GGUF")
	return w.put(uint32(3), tensors, keys)
}

// padded appends data after the alignment.
func (w *ggufWriter) padded(n int) []byte {
	for w.Len()%32 != 0 {
		w.WriteByte(0)
	}
	w.Write(make([]byte, n))
	return w.Bytes()
}

func badGGUF() map[string][]byte {
	big := uint64(1) << 62
	filler := make([]byte, 4096)
	tensor := func(kind uint32, offset uint64, dims ...uint64) *ggufWriter {
		w := header(1, 0).put("w", uint32(len(dims)))
		for _, d := range dims {
			w.put(d)
		}
		return w.put(kind, offset)
	}
	return map[string][]byte{
		"truncated: the file ends inside its header": []byte("GGU"),
		"is not a GGUF file":                         []byte("PK\x03\x04 and more than four bytes"),
		"version 1 is not supported":                 (&ggufWriter{*bytes.NewBufferString("GGUF")}).put(uint32(1), uint64(0), uint64(0)).Bytes(),
		"claims 4611686018427387904 tensors":         append(header(big, 0).Bytes(), filler...),
		"and 4611686018427387904 keys":               append(header(0, big).Bytes(), filler...),
		"metadata key claims":                        append(header(0, 1).put(big).Bytes(), filler...),
		"claims a string of":                         append(header(0, 1).put("k", uint32(8), big).Bytes(), filler...),
		"claims an array of":                         append(header(0, 1).put("k", uint32(9), uint32(4), big).Bytes(), filler...),
		"claims an array of 16777":                   append(header(0, 1).put("k", uint32(9), uint32(4), uint64(16777000)).Bytes(), filler...),
		"unknown value type 77":                      append(header(0, 1).put("k", uint32(77)).Bytes(), filler...),
		"unknown array element type 9":               append(header(0, 1).put("k", uint32(9), uint32(9), uint64(1)).Bytes(), filler...),
		"is there twice":                             append(header(0, 2).put("k", uint32(7), uint8(1), "k", uint32(7), uint8(1)).Bytes(), filler...),
		"want a power of two":                        append(header(0, 1).put("general.alignment", uint32(4), uint32(33)).Bytes(), filler...),
		"has 9 dimensions":                           tensor(0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1).padded(64),
		"empty or too large":                         tensor(0, 0, big, big).padded(64),
		"type Q5_K is not supported":                 tensor(uint32(gguf.TensorTypeQ5_K), 0, 256).padded(256),
		"type unknown(99) is not supported":          tensor(99, 0, 256).padded(256),
		"not whole blocks of 32":                     tensor(uint32(gguf.TensorTypeQ8_0), 0, 33).padded(256),
		"claims 4000000 bytes at offset 0":           tensor(0, 0, 1000000).padded(64),
		"is not a multiple of the alignment":         tensor(0, 4, 1).padded(64),
		"truncated: tensor \"w\" ends at byte":       tensor(0, 0, 17).padded(64),
	}
}

// TestBadGGUF holds that each damaged file is refused in one line before the reader that trusts counts sees it.
func TestBadGGUF(t *testing.T) {
	for want, content := range badGGUF() {
		path := filepath.Join(t.TempDir(), "bad.gguf")
		write(t, path, content)
		_, err := Load(context.Background(), path, LoadOptions{})
		oneLineError(t, err, want, path)
	}
	good := read(t, "testdata/types.gguf")
	for _, cut := range []int{5, 30, 300, 1500, len(good) / 2, len(good) - 1} {
		path := filepath.Join(t.TempDir(), "cut.gguf")
		write(t, path, good[:cut])
		_, err := Load(context.Background(), path, LoadOptions{})
		oneLineError(t, err, "truncated", path)
	}
}

// TestGGUFMetadata holds that metadata which would change the result is refused by name.
func TestGGUFMetadata(t *testing.T) {
	good := read(t, "testdata/types.gguf")
	for want, replace := range map[string][2]string{
		`GGUF "lumma" is not supported`:                           {"\x05\x00\x00\x00\x00\x00\x00\x00llama", "\x05\x00\x00\x00\x00\x00\x00\x00lumma"},
		"unknown setting llama.rope.freq_bose":                    {"llama.rope.freq_base", "llama.rope.freq_bose"},
		"llama.block_count is missing":                            {"llama.block_count", "llama.block_caunt"},
		"1 missing: model.layers.1.mlp.up_proj.weight; 1 unexpec": {"blk.1.ffn_up.weight", "blk.1.ffn_yp.weight"},
	} {
		path := filepath.Join(t.TempDir(), "bad.gguf")
		write(t, path, bytes.Replace(good, []byte(replace[0]), []byte(replace[1]), 1))
		_, err := Load(context.Background(), path, LoadOptions{})
		oneLineError(t, err, want, path)
	}
	_, err := Load(context.Background(), "testdata/types.gguf", LoadOptions{NeedTokenizer: true})
	oneLineError(t, err, "tokenizer missing", "types.gguf")
}

// FuzzGGUF holds that no content makes the check or, once accepted, the reader behind it panic or fail.
func FuzzGGUF(f *testing.F) {
	good, err := os.ReadFile("testdata/types.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:2000])
	f.Add(good)
	for _, content := range badGGUF() {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if checkGGUF(bytes.NewReader(content), int64(len(content))) != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "f.gguf")
		write(t, path, content)
		file, err := gguf.Open(path)
		if err != nil {
			t.Fatalf("accepted by the check, refused by the reader: %v", err)
		}
		reader, err := gguf.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		for _, info := range file.TensorInfos {
			if _, err := reader.ReadTensor(nil, info.Name); err != nil {
				t.Fatalf("accepted but cannot read: %v", err)
			}
		}
		_, _ = ggufConfig(file)
	})
}

func values(t *testing.T, l *Loaded, name string) []float32 {
	t.Helper()
	for _, p := range l.Decoder.Parameters() {
		if p.Name == name {
			value, err := parameter(l.Store, p)
			if err != nil {
				t.Fatal(err)
			}
			return tensors.MustCopyFlatData[float32](value)
		}
	}
	t.Fatalf("no parameter %s", name)
	return nil
}
